"""What web servers are sent, and what is said of their refusals."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
import pytest

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.reading import Reading
from pipeline.store import failures, objects, urls, web

CANARY = "c4n4ry-of-a-secret"


class Server(BaseHTTPRequestHandler):
    """Keeps the headers of each request; answers what `answers` has for its path."""

    asked: dict[str, dict[str, str]] = {}
    answers: dict[str, tuple[int, bytes]] = {}

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        host = self.headers["Host"].partition(":")[0]
        self.asked[f"{host}{path}"] = {n.lower(): v for n, v in self.headers.items()}
        if path.startswith("/to-localhost"):
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/there")  # type: ignore[attr-defined]
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        status, body = self.answers.get(path, (200, b"content"))
        body = body.replace(b"ECHO", f"{self.path} {self.headers['Authorization']}".encode())
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if path == "/slow":
            time.sleep(0.3)
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    Server.asked, Server.answers = {}, {}
    http = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_address[1]}"
    http.shutdown()
    http.server_close()


def config(**options: Any) -> Config:
    return Config(input="in", output="out", **options)


def test_who_we_say_we_are(server: str) -> None:
    assert objects.read("weights", f"{server}/w") == b"content"
    assert Server.asked["127.0.0.1/w"]["user-agent"].startswith("prelabel")
    mine = config(http_headers={"user-agent": "mine/1", "REFERER": "https://here"}).reading
    objects.read("weights", f"{server}/w", mine)
    asked = Server.asked["127.0.0.1/w"]
    assert (asked["user-agent"], asked["referer"]) == ("mine/1", "https://here")


def test_an_answer_may_take_long(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """aiohttp by itself ends each after five minutes, here after a tenth of a second."""
    monkeypatch.setattr(aiohttp.client, "DEFAULT_TIMEOUT", aiohttp.ClientTimeout(total=0.1))
    fs, path = urls.filesystem(f"{server}/slow", reading=Reading({"From": "a@b"}))
    assert fs.cat_file(path) == b"content"


def test_a_secret_goes_to_its_own_server(server: str) -> None:
    """Not to another that a redirect leads to, nor to one that a table names."""
    secret = {"Authorization": f"Bearer {CANARY}", "Cookie": f"a={CANARY}", "X-Key": CANARY}
    headers = {"Referer": "https://here", server: secret}
    reading = config(http_headers=headers).reading
    objects.read("image", f"{server}/to-localhost", reading)
    first, there = Server.asked["127.0.0.1/to-localhost"], Server.asked["localhost/there"]
    assert {n: first[n.lower()] for n in secret} == secret
    assert CANARY not in str(there) and there["referer"] == "https://here"
    objects.read("image", server.replace("127.0.0.1", "localhost") + "/named", reading)
    assert CANARY not in str(Server.asked["localhost/named"])


@pytest.mark.parametrize(
    "body,line",
    [
        (b"bots are not allowed\nsecond", "bots are not allowed"),
        (b"", ""),
        (b"<html><head><title>403 Forbidden</title></head>\n<h1>No <b>bots</b></h1>", "No bots"),
        (b"<style>x\n{}</style><p>a &amp; b", "a & b"),
        (b'{\n  "error": "rate"\n}', '"error": "rate"'),
        (b"forbidden", ""),
        (b"\xff\x00\x1b[31m", "\ufffd\ufffd\ufffd[31m"),
        (b"x" * 100_000, "x" * 66 + "\u2026" + "x" * 133),
        (b"see https://h/a?Sig=1", "see https://h/a"),
    ],
)
def test_the_first_line_of_an_answer(server: str, body: bytes, line: str) -> None:
    Server.answers["/x"] = 403, body
    fs, path = urls.filesystem(f"{server}/x")
    with pytest.raises(web.HttpError) as raised:
        fs.cat_file(path)
    assert failures.reason(raised.value) == "403 Forbidden" + (f": {line}" if line else "")
    assert failures.classify(raised.value) == ("forbidden", False)


@pytest.mark.parametrize(
    "status,code", [(404, "not_found"), (429, "throttled"), (503, "server_error")]
)
def test_codes_of_answers(server: str, status: int, code: str) -> None:
    Server.answers["/x"] = status, b"why"
    fs, path = urls.filesystem(f"{server}/x")
    with pytest.raises(web.HttpError) as raised:
        fs.cat_file(path)
    assert failures.classify(raised.value)[0] == code
    assert failures.reason(raised.value).endswith(": why")


def test_a_server_that_repeats_what_it_was_sent(server: str) -> None:
    Server.answers["/x"] = 403, b"you sent ECHO, no"
    reading = Reading({server: {"Authorization": f"Bearer {CANARY}"}})
    with pytest.raises(UsageError, match="you sent .*, no") as raised:
        objects.read("weights", f"{server}/x?sig=signature-of-mine", reading)
    said = str(raised.value).partition("403 Forbidden")[2]
    assert said == ": you sent /x?sig=… … …, no"


@pytest.mark.parametrize(
    "headers,complaint",
    [
        ({"Authorization": CANARY}, "Authorization may be a secret"),
        ({"X-Key": CANARY}, "X-Key may be a secret"),
        ({"Referer": f"a\n{CANARY}"}, "the value of Referer must be a line of text"),
        ({f"a b {CANARY}": "x"}, "one has no valid name"),
        ({"https://h/path": {}}, "a server is written https://HOST"),
        ({"ftp://h": {}}, "a server is written https://HOST"),
        ({f"https://u:{CANARY}@h": {}}, "a server is written https://HOST"),
        ({"https://h": CANARY}, "http_headers of https://h must hold"),
        (CANARY, "must hold `name: value` lines"),
    ],
)
def test_headers_that_are_refused(headers: Any, complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        config(http_headers=headers)
    assert complaint in str(raised.value) and CANARY not in str(raised.value)


def test_headers_are_not_shown() -> None:
    shown = repr(config(http_headers={"https://H": {"Authorization": CANARY}}))
    assert CANARY not in shown
