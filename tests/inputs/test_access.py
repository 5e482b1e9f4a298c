"""What a hostile manifest cannot read: files and servers of this machine, metadata services."""

from __future__ import annotations

import asyncio
import pickle
import socket
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import aiohttp.resolver
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import detect
from pipeline import Config, UsageError
from pipeline.inputs import access
from tests.support.fetching import fetched


class Server(BaseHTTPRequestHandler):
    """Counts what it is asked for; `/to/URL` redirects there."""

    asked: Counter[str] = Counter()

    def do_GET(self) -> None:
        type(self).asked[self.path] += 1
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", unquote(self.path.removeprefix("/to/")))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(403 if "secret" in self.path else 200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"bytes")

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    Server.asked.clear()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_address[1]}"
    http.shutdown()
    http.server_close()


def codes(tmp_path: Path, s3: Any, bucket: str, uris: list[str], **options: Any) -> dict[str, Any]:
    """URI to error code (or the bytes), named by a table in a bucket."""
    pq.write_table(pa.table({"uri": uris}), tmp_path / "list.parquet")
    s3.upload_file(str(tmp_path / "list.parquet"), bucket, "deep/list.parquet")
    source = f"s3://{bucket}/deep/list.parquet"
    found = fetched(tmp_path, source, fetch_attempts=3, **options)
    assert all(row["attempts"] == 1 for row in found)
    return {row["image_uri"]: row["error_code"] or row["encoded"] for row in found}


def test_a_remote_table_reads_no_local_file(
    cluster: None, s3: Any, bucket: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    inner = tmp_path / "x.zip"
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("secret.jpg", "secret")
    refused = [
        str(secret),
        f"/.{secret}",
        f"/proc/self/root{secret}",
        f"file://{secret}",
        f"file://localhost{secret}",
        f"local://{secret}",
        f"file:///proc/self/cwd/../..{secret}",
        f"simplecache::file://{secret}",
        f"filecache::{secret}",
        f"blockcache::file://{secret}",
        f"zip://secret.jpg::file://{inner}",
        f"zip://secret.jpg::{inner}",
        f"tar://x::{inner}",
        f"libarchive://secret.jpg::{inner}",
        f"dir://x::file://{secret.parent}",
        f"dir://{secret}",
        f"reference://x::file://{secret}",
        f"git://{secret.parent}:x@HEAD/a",
        "memory://x.jpg",
        "data:image/png;base64,AAAA",
        "github://a:b@c/x.jpg",
        "ftp://h/x.jpg",
        "sftp://root@h/x.jpg",
        "ssh://h/x.jpg",
        "smb://h/x.jpg",
        "hdfs://h/x.jpg",
        "dask://x",
        "jupyter://h/x",
        "generic://x",
        f"FILE://{secret}.png",
        f"s3://{bucket}::file://{secret}",
        f"s3://::file://{secret}",
        f"http::file://{secret}",
    ]
    fsspec.filesystem("memory").pipe_file("/x.jpg", b"secret")
    found = codes(tmp_path, s3, bucket, refused)
    known = {"uri_not_allowed", "unknown_protocol", "not_found", "invalid_uri", "read_failed"}
    assert len(found) == len(refused) and set(found.values()) <= known, found
    opened = [uri for uri in refused if found.get(uri) != "uri_not_allowed"]
    assert opened == [
        f"filecache::{secret}",
        "data:image/png;base64,AAAA",
        f"s3://{bucket}::file://{secret}",
        f"s3://::file://{secret}",
    ]
    # a relative name is a key of the bucket, whatever it looks like
    relative = ["../" * 20 + f"..{secret}", f"..{secret}", f"~/../..{secret}"]
    found = codes(tmp_path, s3, bucket, relative)
    assert found == {f"s3://{bucket}{secret}": "not_found"}
    # the flag opens what a path or URL means, never a chain of them
    found = codes(tmp_path, s3, bucket, refused[:5] + refused[7:8], trust_uris=True)
    assert list(found.values()) == [b"secret"] * 5 + ["unknown_protocol"]


METADATA = [
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.16689662",
    "0251.254.0xa9fe",
    "169.254.169.254.",
    "169.254.170.2",
    "169.254.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "[fe80::1]",
    "[febf::1]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "rebinding.example",
    "both.example",
    "１６９.２５４.１６９.２５４",
    "169。254。169。254",
]
MACHINE = [
    "127.0.0.1",
    "127.255.1.2",
    "localhost",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "2130706433",
    "0",
    "127.1",
    "0x7f.1",
]
NAMES = {
    "rebinding.example": ["169.254.169.254"],
    "both.example": ["fe80::1", "169.254.169.254"],
    "redirect.example": ["127.0.0.1"],
}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that knows the names above."""

    async def resolve(
        self: Any, host: str, port: int = 0, family: int = socket.AF_INET
    ) -> list[dict[str, Any]]:
        found = []
        known = [str(info[4][0]) for info in socket.getaddrinfo(NAMES.get(host, [host])[0], port)]
        for address in NAMES.get(host, known):
            kind = socket.AF_INET6 if ":" in address else socket.AF_INET
            answer = {"hostname": host, "host": address, "port": port, "family": kind}
            found.append(answer | {"proto": 0, "flags": socket.AI_NUMERICHOST})
        return found

    for resolver in ("ThreadedResolver", "AsyncResolver"):
        monkeypatch.setattr(getattr(aiohttp.resolver, resolver), "resolve", resolve)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses to which a connection was begun."""
    seen: list[Any] = []
    connect = asyncio.selector_events.BaseSelectorEventLoop.sock_connect

    async def watched(self: Any, sock: socket.socket, address: Any) -> None:
        seen.append(address[0])
        await connect(self, sock, address)

    monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.sock_connect", watched)
    return seen


def test_metadata_addresses(
    cluster: None,
    s3: Any,
    bucket: str,
    tmp_path: Path,
    names: None,
    connections: list[Any],
    server: str,
) -> None:
    """Not by any spelling, name or redirect; from a remote table not this machine either."""
    port = server.rpartition(":")[2]
    metadata = [f"http://{host}/latest/{n}.jpg" for n, host in enumerate(METADATA)]
    metadata += [f"https://{METADATA[0]}/x.jpg"]
    machine = [f"http://{host}:{port}/{n}.jpg" for n, host in enumerate(MACHINE)]
    connections.clear()
    found = codes(tmp_path, s3, bucket, metadata + machine)
    assert found == dict.fromkeys(metadata + machine, "uri_not_allowed")
    assert not Server.asked
    # from a table on this machine its own servers may be named, but metadata services may not
    hosts = [host for host in METADATA if host.isascii()]
    uris = [f"{server}/to/http://{host}/{n}.jpg" for n, host in enumerate(hosts)]
    uris = [f"{server}/ok.jpg", *uris, f"{server}/to/file:///etc/x", f"{server}/to/{server}/ok.jpg"]
    (tmp_path / "list.txt").write_text("\n".join(uris))
    local = fetched(tmp_path / "local", str(tmp_path / "list.txt"), fetch_attempts=3)
    outcomes = [row["error_code"] or row["encoded"] for row in local]
    assert outcomes[0] == outcomes[-1] == b"bytes" and outcomes[-2] == "read_failed"
    assert set(outcomes[1:-2]) <= {"uri_not_allowed", "read_failed"}
    assert outcomes[1] == "uri_not_allowed" and outcomes.count("uri_not_allowed") >= 19
    assert [row["attempts"] for row in local] == [1] * len(local)
    assert all(Server.asked[path] == 1 for path in Server.asked if path.startswith("/to/"))
    assert set(connections) <= {"127.0.0.1"}


def test_redirects_of_a_remote_table(
    cluster: None,
    s3: Any,
    bucket: str,
    tmp_path: Path,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that may be named leads to this machine: the first hop is let through here."""
    other = ThreadingHTTPServer(("127.0.0.2", 0), Server)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    first = f"http://127.0.0.2:{other.server_address[1]}"
    reached = access.reached
    public = lambda a: reached("203.0.113.1" if a == "127.0.0.2" else a)  # noqa: E731
    monkeypatch.setattr(access, "reached", public)
    uris = [f"{first}/ok.jpg", f"{first}/to/{server}/x.jpg", f"{first}/to/http://169.254.169.254/"]
    uris[2] += "x.jpg"
    found = codes(tmp_path, s3, bucket, uris)
    assert list(found.values()) == [b"bytes", "uri_not_allowed", "uri_not_allowed"]
    assert "/x.jpg" not in Server.asked
    # the flag opens the machine
    found = codes(tmp_path, s3, bucket, uris[:2], trust_uris=True)
    assert list(found.values()) == [b"bytes", b"bytes"]
    other.shutdown()
    other.server_close()


@pytest.mark.parametrize("address", ["10.1.2.3", "172.16.0.1", "192.168.1.1", "fd12::1", "8.8.8.8"])
def test_other_addresses_are_allowed(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    info = (family, socket.SOCK_STREAM, 0, "", (address, 80))
    access._socket_to_others(info).close()


def test_file_systems_with_a_guard_are_kept_and_pickled() -> None:
    kept, _ = access.locate("http://h/a.jpg", "s3://b/list.txt")
    assert access.locate("http://h/b.jpg", "s3://b/list.txt")[0] is kept
    assert access.locate("http://h/b.jpg", "/list.txt")[0] is not kept
    assert pickle.loads(pickle.dumps(kept)) is kept
    assert kept.get_client is access.remote_client


def test_trust_is_a_flag(tmp_path: Path) -> None:
    flags = ["--input", "s3://b/x.csv", "--output", "out"]
    assert detect.parse(flags)[0].trust_uris is False
    assert detect.parse([*flags, "--trust-uris"])[0].trust_uris is True
    with pytest.raises(UsageError, match="trust_uris must be true or false, not 'no'"):
        Config(input="a", output="b", trust_uris="no")  # type: ignore[arg-type]
