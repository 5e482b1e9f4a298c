"""Where credentials and signatures do not go."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tenacity
import torch
from PIL import Image
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

from jobs import detect
from pipeline import words
from pipeline.labels.verify import verify
from pipeline.store import objects
from tests.support.exploits import Exploit
from tests.support.outputs import files, rows

CANARY = "c4n4ry"


@pytest.mark.parametrize(
    "text,expected",
    [
        (f"403, url='http://u:{CANARY}@h/x?Sig={CANARY}'", "403, url='http://h/x'"),
        (f"HTTPS://h/a?b={CANARY}&c={CANARY} and http://i/?{CANARY}", "HTTPS://h/a and http://i/"),
        ("s3://b/a?b.jpg is not there", "s3://b/a?b.jpg is not there"),
        ("http://h/a b?", "http://h/a b?"),
    ],
)
def test_urls_in_messages(text: str, expected: str) -> None:
    assert words.explain(ValueError(text)) == f"ValueError: {expected}"
    assert words.printable(text) == expected


class Presigned(BaseHTTPRequestHandler):
    """Gives what it has to those who know the query."""

    content: dict[str, bytes] = {}
    keys: dict[str, str | None] = {}

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.keys[path] = self.headers["X-Key"]
        data = self.content.get(path, b"")
        known = CANARY in query or not path.endswith((".csv", ".pth", ".txt", ".parquet"))
        self.send_response(200 if data and known else 403 if data else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def presigned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with a table of URIs, images in a table, weights and class names."""
    folder = tmp_path_factory.mktemp("presigned")
    state = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=4)
    torch.save(state.state_dict(), folder / "w.pth")
    Image.new("RGB", (40, 40), "white").save(folder / "a.png")
    image = (folder / "a.png").read_bytes()
    pq.write_table(pa.table({"image": [image, b"no image"]}), folder / "t.parquet")
    Presigned.content = {
        "/in/list.csv": f"uri\na.png\ngone.jpg\nhttp://127.0.0.1:1/x.jpg?sig={CANARY}\n".encode(),
        "/in/t.parquet": (folder / "t.parquet").read_bytes(),
        "/in/a.png": image,
        "/w.pth": (folder / "w.pth").read_bytes(),
        "/evil.pth": pickle.dumps(Exploit(folder)),
        "/names.txt": b"one\ntwo\nthree\n",
    }
    http = ThreadingHTTPServer(("127.0.0.1", 0), Presigned)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_address[1]}"
    http.shutdown()
    http.server_close()


QUERY = (
    f"X-Amz-Credential=key/{CANARY}%2Faws&X-Amz-Signature={CANARY}&X-Amz-Security-Token={CANARY}"
)


def holders(folder: Path) -> list[str]:
    """The files that hold the canary; of those of Parquet, the columns."""
    found = []
    for path in folder.rglob("*"):
        if not path.is_file():  # Ray has sockets among its files
            continue
        name, data = str(path.relative_to(folder)), path.read_bytes()
        if not name.endswith(".parquet"):
            found += [name] * (CANARY.encode() in data)
        else:
            table = pq.ParquetFile(pa.BufferReader(data)).read()
            found += [
                f"{name} {column}"
                for column in table.column_names
                if CANARY in str(table[column].to_pylist())
            ]
    return found


def test_secrets_go_nowhere(presigned: str, s3: Any, tmp_path: Path) -> None:
    """A whole command with its own cluster: credentials, and queries of the URLs on its line."""
    output = tmp_path / "out"
    (tmp_path / "run.yaml").write_text(
        f"model: {{min_size: 64, max_size: 128, rpn_post_nms_top_n_test: 20}}\nfetch_attempts: 1\n"
        f"input: {presigned}/in/list.csv?{QUERY}\nweights: {presigned}/w.pth?{QUERY}\n"
        f"http_headers: {{'{presigned}': {{X-Key: {CANARY}, Authorization: Basic {CANARY}}}}}\n"
    )
    command = [
        sys.executable,
        "-m",
        "jobs.detect",
        "--config",
        str(tmp_path / "run.yaml"),
        "--output",
        str(output),
        "--max-error-rate",
        "1",
        "--categories",
        f"{presigned}/names.txt?{QUERY}",
    ]
    with tempfile.TemporaryDirectory(prefix="ray") as sessions:
        environment = os.environ | {
            "AWS_SECRET_ACCESS_KEY": f"{CANARY}-secret-key",
            "AWS_SESSION_TOKEN": f"{CANARY}-token",
            "RAY_TMPDIR": sessions,
        }
        environment.pop("RAY_ADDRESS", None)
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=250)
        assert done.returncode == 0, done.stderr
        (session,) = Path(sessions).glob("ray/session_2*")
        assert len(files(str(session / "logs"))) > 10
        assert holders(session) == []
    assert {Presigned.keys[path] for path in ("/in/list.csv", "/w.pth", "/in/a.png")} == {CANARY}
    assert CANARY not in done.stdout + done.stderr
    (ok, gone, refused) = rows(str(output))
    assert (ok["status"], gone["error_code"], refused["error_code"]) == (
        "ok",
        "not_found",
        "connection",
    )
    assert ok["image_uri"] == f"{presigned}/in/a.png"
    assert ok["detections"] is not None and "one" in str(files(str(output))["_run/run.json"])
    # a URI of the table stays as it is: it names the row, and is what a later read needs
    assert refused["image_uri"].endswith(f"?sig={CANARY}")
    assert {name.rpartition(" ")[2] for name in holders(output)} == {"image_uri"}
    assert not verify(str(output)).breaches


@pytest.mark.parametrize(
    "flags",
    [
        "--input {url}/in/list.csv?{query} --weights {url}/gone.pth?{query}",
        "--input {url}/in/list.csv?{query} --weights {url}/evil.pth?{query}",
        "--input {url}/in/list.csv?{query} --weights {url}/names.txt?{query}",
        "--input {url}/in/list.csv?{query} --weights http://127.0.0.1:1/w.pth?{query}",
        "--input {url}/in/list.csv?{query} --weights random:0 --categories {url}/w.pth?{query}",
        "--input {url}/in/list.csv?{query} --weights random:0 --categories {url}/x.json?{query}",
        "--input {url}/in/gone.csv?{query} --weights random:0",
        "--input {url}/in/list.csv?{query} --weights random:0 --uri-column x",
        "--input {url}/in/list.csv?{query} --weights random:0 --carry x",
        "--input {url}/names.txt?{query} --weights random:0 --bytes-column x",
        "--input {url}/in/t.parquet?{query} --weights random:0 --bytes-column image",
        "--input http://user:c4n4ry@h/x --weights random:0",
    ],
)
def test_secrets_in_complaints(
    cluster: None,
    presigned: str,
    flags: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())
    arguments = flags.format(url=presigned, query=QUERY).split()
    assert detect.main([*arguments, "--output", str(tmp_path / "out")]) == 2
    err = capfd.readouterr().err
    assert "prelabel detect: " in err and CANARY not in err and CANARY not in caplog.text
    assert holders(tmp_path) == []


def test_credentials_in_complaints(s3: Any, bucket: str) -> None:
    environment = os.environ | {
        "AWS_SECRET_ACCESS_KEY": f"{CANARY}-secret-key",
        "AWS_SESSION_TOKEN": f"{CANARY}-token",
        "PRELABEL_DEBUG": "1",
    }
    command = [sys.executable, "-m", "jobs.verify", f"s3://{bucket}/out"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode == 2 and "correct the credentials" in done.stderr
    assert CANARY not in done.stdout + done.stderr
