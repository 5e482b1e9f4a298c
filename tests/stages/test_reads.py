"""Members of archives as a fetch has them: by few requests, and each error a row of its own."""

from __future__ import annotations

import random
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity

from pipeline import Config
from pipeline.errors import UsageError
from pipeline.inputs import enumeration
from pipeline.inputs.containers import reading
from pipeline.outputs import manifest
from pipeline.outputs.layout import Layout
from pipeline.reading import Reading
from pipeline.stages.reads import Reads
from pipeline.store import objects, web
from tests.support import packed
from tests.support.faulty import CUT, Fault, Proxy
from tests.support.fetching import fetched


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, cluster: None) -> None:
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())


def images(number: int, size: int = 3000) -> list[packed.File]:
    chance = random.Random(number)
    return [(f"{n}.jpg", chance.randbytes(chance.randrange(size))) for n in range(number)]


def contents(rows: list[dict[str, Any]]) -> list[bytes]:
    assert not [row["error_message"] for row in rows if row["error_code"]]
    return [row["encoded"] for row in rows]


@pytest.fixture
def store(s3: Any) -> Iterator[Proxy]:
    with Proxy(s3.meta.endpoint_url) as proxy:
        yield proxy


KINDS: dict[str, Callable[[list[packed.File]], bytes]] = {
    "a.tar": packed.tar,
    "a.tar.gz": partial(packed.tar, mode="w:gz"),
    "a.zip": partial(packed.zipped, method=zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("name", KINDS)
def test_neighbours_come_by_one_request(
    store: Proxy, s3: Any, bucket: str, tmp_path: Path, name: str
) -> None:
    """Also where one of them is cut on its way, which is then tried again."""
    written = images(100)
    s3.put_object(Bucket=bucket, Key=f"in/{name}", Body=KINDS[name](written))
    options = {"s3_options": {"endpoint_url": store.url}}
    store.faults = [Fault(CUT, 0.5, name)]
    rows = fetched(tmp_path, f"s3://{bucket}/in/{name}", fetch_concurrency=2, **options)
    assert contents(rows) == [data for _, data in written]
    assert [row["image_uri"] for row in rows] == [
        f"s3://{bucket}/in/{name}#{n}" for n, _ in written
    ]
    assert [row["size_bytes"] for row in rows] == [len(data) for _, data in written]
    assert "source_place" not in rows[0]
    asked = [path for method, path in store.requests.elements() if method == "GET" and name in path]
    assert len(asked) < 30


def test_members_far_apart_and_files_between(tmp_path: Path) -> None:
    """Those that a run has not to read are not read; what comes keeps its order."""
    large = random.Random(0).randbytes(200_000)
    members = [("a.jpg", b"a"), ("large.bin", large), ("b.jpg", b"b"), ("c.jpg", b"c")]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.jpg").write_bytes(b"1")
    (tmp_path / "in/2.tar").write_bytes(packed.tar(members))
    (tmp_path / "in/3.zip").write_bytes(packed.zipped(members))
    (tmp_path / "in/4.jpg").write_bytes(b"4")
    rows = fetched(tmp_path, f"{tmp_path}/in", extensions="jpg tar zip")
    assert contents(rows) == [b"1", b"a", b"b", b"c", b"a", b"b", b"c", b"4"]


def patched(data: bytes, **changes: int) -> bytes:
    """A zip with another method or other flags in its directory's first entry."""
    found = bytearray(data)
    at = found.index(b"PK\1\2")
    for name, value in changes.items():
        place = at + {"flags": 8, "method": 10, "crc": 16}[name]
        found[place : place + 2] = value.to_bytes(2, "little")
    return bytes(found)


def test_members_that_cannot_be_read(tmp_path: Path) -> None:
    """Each is a row that says why; its neighbours do not pay."""
    two = [("a.jpg", b"a" * 100), ("b.jpg", b"b" * 100)]
    plain = packed.zipped(two)
    bomb = packed.zipped([("a.jpg", bytes(10**6)), two[1]], zipfile.ZIP_DEFLATED)
    liar = bytearray(bomb)  # says that it is small
    at = liar.index(b"PK\1\2") + 24
    liar[at : at + 4] = (100).to_bytes(4, "little")
    archives = {
        "encrypted": (patched(plain, flags=1), "encrypted"),
        "unknown method": (patched(plain, method=93), "member_unreadable"),
        "another crc": (patched(plain, crc=1), "container_changed"),
        "a bit of data": (plain.replace(b"a" * 100, b"a" * 99 + b"b", 1), "member_unreadable"),
        "no header": (plain.replace(b"PK\3\4", b"????", 1), "container_changed"),
        "large": (bomb, "object_too_large"),
        "a bomb": (bytes(liar), "member_unreadable"),
        "of bzip2": (patched(plain, method=12), "member_unreadable"),
        "of lzma": (patched(plain, method=14), "member_unreadable"),
    }
    folder = tmp_path / "in"
    folder.mkdir()
    for name, (data, _) in archives.items():
        (folder / f"{name}.zip").write_bytes(data)
    rows = fetched(tmp_path, f"{folder}/*.zip", max_object_bytes=1000)
    found = {row["image_uri"]: (row["encoded"], row["error_code"]) for row in rows}
    for name, (_, code) in archives.items():
        assert found.pop(f"{folder}/{name}.zip#a.jpg") == (None, code), name
        assert found.pop(f"{folder}/{name}.zip#b.jpg") == (b"b" * 100, None), name
    assert not found and all(row["error_message"] for row in rows if row["error_code"])


def test_what_is_left_of_a_damaged_archive_is_a_row(tmp_path: Path) -> None:
    whole = packed.tar([("a.jpg", bytes(700)), ("b.jpg", bytes(700))])
    (tmp_path / "a.tar").write_bytes(whole[:2500])
    rows = fetched(tmp_path, f"{tmp_path}/a.tar")
    assert [row["error_code"] for row in rows] == [None, *["container_damaged"] * 2]
    uris = [f"{tmp_path}/a.tar{end}" for end in ("#a.jpg", "#b.jpg", "")]
    assert [row["image_uri"] for row in rows] == uris
    assert "452 of its 700 bytes" in rows[1]["error_message"]
    assert "cut off here (byte 3,072)" in rows[2]["error_message"]


@pytest.mark.parametrize("name", KINDS)
def test_an_archive_that_is_another_one_by_now(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No image gets the bytes of another."""
    before = [(f"{n}.jpg", b"%d" % n * 200) for n in range(6)]
    path = tmp_path / name
    path.write_bytes(KINDS[name](before))
    write = enumeration.write

    def then_changed(*arguments: Any, **options: Any) -> Any:
        found = write(*arguments, **options)
        path.write_bytes(KINDS[name]([(f"x{n}.jpg", b"%d" % n * 200) for n in range(1, 5)]))
        return found

    monkeypatch.setattr(enumeration, "write", then_changed)
    rows = fetched(tmp_path, str(path))
    assert len(rows) == 6 and not any(row["encoded"] for row in rows)
    codes = {"container_changed", "container_damaged", "member_unreadable"}
    assert {row["error_code"] for row in rows} <= codes
    assert rows[0]["error_code"] == "container_changed"


@pytest.mark.parametrize("name", KINDS)
def test_an_archive_that_is_gone_by_now(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / name, enumeration.write
    path.write_bytes(KINDS[name](images(3)))

    def then_gone(*arguments: Any, **options: Any) -> Any:
        found = write(*arguments, **options)
        path.unlink()
        return found

    monkeypatch.setattr(enumeration, "write", then_gone)
    rows = fetched(tmp_path, str(path))
    assert [row["error_code"] for row in rows] == ["not_found"] * 3


class Quiet(SimpleHTTPRequestHandler):
    """Answers to every range with the whole file."""

    def log_message(self, *_: Any) -> None: ...


@pytest.mark.parametrize("name", KINDS)
def test_a_server_that_knows_no_ranges(tmp_path: Path, name: str) -> None:
    written = images(50)
    (tmp_path / name).write_bytes(KINDS[name](written))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/{name}"
        rows = fetched(tmp_path / "o", url)
        alone = reread(tmp_path / "o", url)
        server.shutdown()
    assert contents(rows) == alone == [data for _, data in written]


def reread(folder: Path, source: str) -> list[bytes | str | None]:
    """The images of a manifest, each by a read of its own, as reports and exports have them."""
    layout = Layout.of(str(folder / "out"))
    known = manifest.load(layout, "")
    assert known
    limits = reading.Limits(2**20, 2**20, 60)
    return [
        reading.read(row, source, None, limits, False, Reading())
        for row in known.read_part(layout, 0).to_pylist()
    ]


def test_a_server_that_sends_a_large_archive_for_each_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, write = packed.tar(images(5)), enumeration.write
    (tmp_path / "a.tar").write_bytes(data)

    def then_large(*arguments: Any, **options: Any) -> Any:
        found = write(*arguments, **options)
        monkeypatch.setattr(web, "WHOLE_BYTES", len(data) - 1)
        return found

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/a.tar"
        monkeypatch.setattr(enumeration, "write", then_large)
        rows = fetched(tmp_path / "o", url)
        with pytest.raises(
            UsageError, match=f"cannot read {url}: 200 OK: the server ignores ranges and sends all"
        ):
            fetched(tmp_path / "p", url)
        server.shutdown()
    assert [(row["error_code"], row["attempts"]) for row in rows] == [("read_failed", 1)] * 5
    assert all("that are accepted" in row["error_message"] for row in rows)


def test_an_archive_that_may_not_be_read(
    s3: Any, bucket: str, tmp_path: Path, store: Proxy
) -> None:
    """One row of it, and the others are read."""
    for name in "ab":
        s3.put_object(Bucket=bucket, Key=f"in/{name}.tar", Body=packed.tar(images(2)))
    store.faults = [Fault("AccessDenied", path="a.tar")]
    options = {"s3_options": {"endpoint_url": store.url}}
    rows = fetched(tmp_path, f"s3://{bucket}/in/*.tar", **options)
    assert [row["error_code"] for row in rows] == ["forbidden", None, None]
    assert rows[0]["image_uri"] == f"s3://{bucket}/in/a.tar"


class Expired(Exception):
    """What botocore raises."""

    response = {"Error": {"Code": "ExpiredToken"}}


def test_expired_credentials_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a thread reads the image: of a row group, or of a gzipped tar."""
    said: list[str] = []
    client: Any = SimpleNamespace(fail=said.append)

    def refused(*_: Any) -> bytes:
        raise PermissionError("the token has expired") from Expired()

    monkeypatch.setattr(reading, "read", refused)
    reads = Reads(Config(input=str(tmp_path), output=f"{tmp_path}/out"), client)
    future, _ = reads._member({})
    assert future.result()[0].code == "forbidden"
    assert [one.partition(":")[0] for one in said] == ["the store refuses the credentials"]
