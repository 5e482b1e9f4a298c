"""What a hostile table, checkpoint or configuration cannot do, and where secrets do not go."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import aiohttp.resolver
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tenacity
import torch
from PIL import Image
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

from jobs import detect
from pipeline import Config, UsageError, access, manifest, objects, run, storage
from pipeline.config import from_yaml
from pipeline.labels.verify import verify
from pipeline.model import resolve
from tests.engines import PixelEngine
from tests.outputs import files, rows
from tests.test_fetch import fetched

CANARY = "c4n4ry"


# ------------------------------------------------------------------------------- code


class Exploit:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("name", ["evil.pth", "evil.pt", "evil.safetensors", "evil"])
@pytest.mark.parametrize("form", ["zip", "legacy", "bare", "tar"])
def test_code_in_weights(form: str, name: str, tmp_path: Path) -> None:
    path, owned = tmp_path / name, tmp_path / "owned"
    content = {"model": Exploit(owned), "roi_heads.box_predictor.cls_score.weight": torch.zeros(1)}
    if form == "zip":
        torch.save(content, path)
        assert zipfile.is_zipfile(path)
    elif form == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    elif form == "bare":
        path.write_bytes(pickle.dumps(content))
    else:  # as torch before 0.1.10 saved
        import io
        import tarfile

        with tarfile.open(path, "w") as tar:
            for part in ("storages", "tensors", "pickle"):
                data = pickle.dumps(content)
                entry = tarfile.TarInfo(part)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    with pytest.raises(UsageError, match="could execute code|cannot be loaded"):
        resolve(Config(input="in", output="out", weights=str(path)))
    assert not owned.exists()
    if form == "bare":  # the trap works
        pickle.loads(path.read_bytes())
        assert owned.exists()


@pytest.fixture
def pickled(tmp_path: Path) -> Iterator[pa.Array]:
    """A column of Ray's type for Python objects, whose values are unpickled when looked at."""
    import ray.data  # noqa: F401 - which registers the type
    from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType

    evil = pa.array([pickle.dumps(Exploit(tmp_path / "owned"))], pa.large_binary())
    column = pa.ExtensionArray.from_storage(ArrowPythonObjectType(), evil)
    yield column
    assert not (tmp_path / "owned").exists()
    column.to_pylist()  # the trap works
    assert (tmp_path / "owned").exists()


def test_pickles_in_a_table(cluster: None, pickled: pa.Array, tmp_path: Path) -> None:
    def counted(table: dict[str, Any], **options: Any) -> int:
        pq.write_table(pa.table(table), tmp_path / "t.parquet")
        config = Config(input=str(tmp_path / "t.parquet"), output=str(tmp_path / "o"), **options)
        return manifest.count(config).rows

    struct = pa.StructArray.from_arrays([pickled], ["bytes"])
    for column in (pickled, struct, pa.array([[1]])):
        with pytest.raises(UsageError, match="not URIs"):
            counted({"uri": column})
        with pytest.raises(UsageError, match="not image bytes"):
            counted({"uri": column}, bytes_column="uri")
    for column in (pickled, struct, pa.ListArray.from_arrays([0, 1], pickled)):
        with pytest.raises(UsageError, match="cannot be carried: it is of an extension type"):
            counted({"uri": ["/a"], "x": column}, carry=["x"])
    assert counted({"uri": ["/a"], "x": pickled}) == 1


def test_pickles_in_the_second_table(cluster: None, pickled: pa.Array, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "white").save(tmp_path / "a.png")
    image = (tmp_path / "a.png").read_bytes()
    good = {"uri": ["/a"], "image": [image], "x": pa.array([b"1"], pa.large_binary())}
    for number, name in enumerate(("uri", "image", "x")):
        folder = tmp_path / str(number)
        folder.mkdir()
        pq.write_table(pa.table(good), folder / "0.parquet")
        pq.write_table(pa.table(good | {name: pickled}), folder / "1.parquet")
    source: dict[str, Any] = {"output": str(tmp_path / "o"), "input": f"{tmp_path}/0/*.parquet"}
    with pytest.raises(UsageError, match="cannot read"):
        manifest.count(Config(**source))
    source["input"] = f"{tmp_path}/2/*.parquet"
    for options in cast(list[dict[str, Any]], [{}, {"bytes_column": "image"}]):
        assert manifest.count(Config(**source, carry=("x",), **options)).rows in (1, 2)
    found = fetched(tmp_path / "o", f"{tmp_path}/1/*.parquet", bytes_column="image")
    assert [row["error_code"] for row in found] == [None, "read_failed"]


@pytest.mark.parametrize(
    "kind",
    ["arrow.py_extension_type", "pandas.period", "pandas.interval", "ray.data.arrow_tensor",
     "ray.data.arrow_tensor_v2", "ray.data.arrow_variable_shaped_tensor",
     "ray.data.arrow_pickled_object", "arrow.fixed_shape_tensor",
     "datasets.features.features.Array2DExtensionType"],
)  # fmt: skip
def test_pickles_in_metadata(cluster: None, kind: str, tmp_path: Path) -> None:
    """Extension types, of which old versions unpickle the parameters; pandas' metadata."""
    import datasets  # noqa: F401 - whose types are registered by it
    import ray.data  # noqa: F401

    evil = pickle.dumps(Exploit(tmp_path / "owned"))
    extension = {"ARROW:extension:name": kind, "ARROW:extension:metadata": evil}
    pandas = {"pandas": b'{"columns": [{"name": "x", "metadata": {"pickle": 1}}]}', "PANDAS": evil}
    for storage_type in (pa.binary(), pa.list_(pa.int64()), pa.int64()):
        schema = pa.schema(
            [pa.field("uri", pa.string()), pa.field("x", storage_type, metadata=extension)], pandas
        )
        path = tmp_path / "t.parquet"
        # as a hostile program writes it: Arrow's own schema, whose types nobody has seen
        pq.write_table(pa.table({"uri": ["/a"], "x": pa.nulls(1, storage_type)}, schema), path)
        for options in ({}, {"carry": ["x"]}, {"uri_column": "x"}, {"bytes_column": "x"}):
            with contextlib.suppress(UsageError):
                config = Config(input=str(path), output=str(tmp_path / "o"), **options)
                manifest.write(config, *storage.filesystem(f"{tmp_path}/o/_run"), "")
                manifest.read_part(*storage.filesystem(f"{tmp_path}/o/_run"), 0).to_pylist()
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {}']",
        "input: !!python/object/apply:os.system ['touch {}']",
        "model: {{min_size: !!python/object/new:os.system ['touch {}']}}",
        "? !!python/object/apply:os.system ['touch {}']\n: 1",
        "input: !!python/name:os.system",
    ],
)
def test_code_in_a_configuration(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text.format(tmp_path / "owned"))
    with pytest.raises(UsageError, match="cannot read --config .* could not determine a constr"):
        from_yaml(str(tmp_path / "run.yaml"))
    assert not (tmp_path / "owned").exists()


# ------------------------------------------------------------------------------- URIs


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
        str(secret), f"/.{secret}", f"/proc/self/root{secret}", f"file://{secret}",
        f"file://localhost{secret}", f"local://{secret}", f"file:///proc/self/cwd/../..{secret}",
        f"simplecache::file://{secret}", f"filecache::{secret}", f"blockcache::file://{secret}",
        f"zip://secret.jpg::file://{inner}", f"zip://secret.jpg::{inner}", f"tar://x::{inner}",
        f"libarchive://secret.jpg::{inner}", f"dir://x::file://{secret.parent}",
        f"dir://{secret}", f"reference://x::file://{secret}", f"git://{secret.parent}:x@HEAD/a",
        "memory://x.jpg", "data:image/png;base64,AAAA", "github://a:b@c/x.jpg", "ftp://h/x.jpg",
        "sftp://root@h/x.jpg", "ssh://h/x.jpg", "smb://h/x.jpg", "hdfs://h/x.jpg", "dask://x",
        "jupyter://h/x", "generic://x", f"FILE://{secret}", f"s3://{bucket}::file://{secret}",
        f"s3://::file://{secret}", f"http::file://{secret}",
    ]  # fmt: skip
    import fsspec

    fsspec.filesystem("memory").pipe_file("/x.jpg", b"secret")
    found = codes(tmp_path, s3, bucket, refused)
    known = {"uri_not_allowed", "unknown_protocol", "not_found", "invalid_uri", "read_failed"}
    assert len(found) == len(refused) and set(found.values()) <= known, found
    opened = [uri for uri in refused if found.get(uri) != "uri_not_allowed"]
    assert opened == [
        f"filecache::{secret}", "data:image/png;base64,AAAA",
        f"FILE://{secret}", f"s3://{bucket}::file://{secret}", f"s3://::file://{secret}",
    ]  # fmt: skip
    # a relative name is a key of the bucket, whatever it looks like
    relative = ["../" * 20 + f"..{secret}", f"..{secret}", f"~/../..{secret}"]
    found = codes(tmp_path, s3, bucket, relative)
    prefix = f"s3://{bucket}/deep/"
    assert found == {f"{prefix}{name}": "read_failed" for name in relative}
    # the flag opens what a path or URL means, never a chain of them
    found = codes(tmp_path, s3, bucket, refused[:5] + refused[7:8], trust_uris=True)
    assert list(found.values()) == [b"secret"] * 5 + ["unknown_protocol"]


METADATA = [
    "169.254.169.254", "2852039166", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE", "0251.0376.0251.0376",
    "169.254.43518", "169.16689662", "0251.254.0xa9fe", "169.254.169.254.", "169.254.170.2",
    "169.254.0.1", "100.100.100.200", "168.63.129.16", "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]", "[0:0:0:0:0:ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]", "[fe80::1]", "[febf::1]", "[fd00:ec2::254]", "[fd20:ce::254]",
    "rebinding.example", "both.example", "１６９.２５４.１６９.２５４",
    "169。254。169。254",
]  # fmt: skip
MACHINE = ["127.0.0.1", "127.255.1.2", "localhost", "0.0.0.0", "[::1]", "[::]",
           "[::ffff:127.0.0.1]", "2130706433", "0", "127.1", "0x7f.1"]  # fmt: skip
NAMES = {"rebinding.example": ["169.254.169.254"], "both.example": ["fe80::1", "169.254.169.254"],
         "redirect.example": ["127.0.0.1"]}  # fmt: skip


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
            found.append({"hostname": host, "host": address, "port": port, "family": kind,
                          "proto": 0, "flags": socket.AI_NUMERICHOST})  # fmt: skip
        return found

    for resolver in ("ThreadedResolver", "AsyncResolver"):
        monkeypatch.setattr(getattr(aiohttp.resolver, resolver), "resolve", resolve)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses to which a connection was begun."""
    import asyncio

    seen: list[Any] = []
    connect = asyncio.selector_events.BaseSelectorEventLoop.sock_connect

    async def watched(self: Any, sock: socket.socket, address: Any) -> None:
        seen.append(address[0])
        await connect(self, sock, address)

    monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.sock_connect", watched)
    return seen


def test_metadata_addresses(
    cluster: None, s3: Any, bucket: str, tmp_path: Path, names: None, connections: list[Any],
    server: str,
) -> None:  # fmt: skip
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


# ------------------------------------------------------------------------------- output names


def test_nothing_is_written_beside_the_output(
    cluster: None, s3: Any, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (40, 40), "white").save(tmp_path / "in" / "a.png")
    uris = ["a.png", "../in/a.png", "../../x.png", f"{tmp_path}/out/../../../evil", "/../../etc/x",
            "status=ok/../../x", "..%2f..%2fx", "\\..\\..\\x", "%00", "_SUCCESS", "a\n../b",
            f"{tmp_path}/out/_run/run.json", "x" * 5000]  # fmt: skip
    pq.write_table(
        pa.table({"uri": uris, "../../carried": uris, "status": uris}), tmp_path / "in/t.parquet"
    )
    before = files(str(tmp_path))
    options: dict[str, Any] = {"input": str(tmp_path / "in/t.parquet"), "weights": "random:0",
                               "carry": ["../../carried"], "max_error_rate": 1.0}  # fmt: skip
    run(Config(output=f"{tmp_path}/in/../deep/../out", **options), PixelEngine)
    after = files(str(tmp_path))
    new = {name for name in after if name not in before}
    assert {name: after[name] for name in before} == before
    assert all(
        name.startswith(("out/detections/status=", "out/_run/", "out/_SUCCESS")) for name in new
    )
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    assert not verify(str(tmp_path / "out")).breaches
    # a bucket has no folders: two dots are a part of a name, which this store does not take
    with pytest.raises((UsageError, RuntimeError), match="Invalid Request"):
        run(Config(output=f"s3://{bucket}/labels/../../other/out", **options), PixelEngine)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


# ------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    "text,expected",
    [
        (f"403, url='http://u:{CANARY}@h/x?Sig={CANARY}'", "403, url='http://h/x"),
        (f"HTTPS://h/a?b={CANARY}&c={CANARY} and http://i/?{CANARY}", "HTTPS://h/a and http://i/"),
        ("s3://b/a?b.jpg is not there", "s3://b/a?b.jpg is not there"),
        ("http://h/a b?", "http://h/a b?"),
    ],
)
def test_urls_in_messages(text: str, expected: str) -> None:
    assert storage.explain(ValueError(text)) == f"ValueError: {expected}"
    assert storage.printable(text) == expected


class Presigned(BaseHTTPRequestHandler):
    """Gives what it has to those who know the query."""

    content: dict[str, bytes] = {}

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
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
            found += [f"{name} {column}" for column in table.column_names
                      if CANARY in str(table[column].to_pylist())]  # fmt: skip
    return found


def test_secrets_go_nowhere(presigned: str, s3: Any, tmp_path: Path) -> None:
    """A whole command with its own cluster: credentials, and queries of the URLs on its line."""
    output = tmp_path / "out"
    (tmp_path / "run.yaml").write_text(
        f"model: {{min_size: 64, max_size: 128}}\nfetch_attempts: 1\n"
        f"input: {presigned}/in/list.csv?{QUERY}\nweights: {presigned}/w.pth?{QUERY}\n"
    )
    command = [
        sys.executable, "-m", "jobs.detect", "--config", str(tmp_path / "run.yaml"), "--output",
        str(output), "--max-error-rate", "1", "--categories", f"{presigned}/names.txt?{QUERY}",
    ]  # fmt: skip
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
    cluster: None, presigned: str, flags: str, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())
    arguments = flags.format(url=presigned, query=QUERY).split()
    assert detect.main([*arguments, "--output", str(tmp_path / "out")]) == 2
    err = capfd.readouterr().err
    assert "jobs.detect: " in err and CANARY not in err and CANARY not in caplog.text
    assert holders(tmp_path) == []


def test_credentials_in_complaints(s3: Any, bucket: str) -> None:
    environment = os.environ | {
        "AWS_SECRET_ACCESS_KEY": f"{CANARY}-secret-key", "AWS_SESSION_TOKEN": f"{CANARY}-token",
        "PRELABEL_DEBUG": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "jobs.verify", f"s3://{bucket}/out"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode == 2 and "no permission" in done.stderr
    assert CANARY not in done.stdout + done.stderr
