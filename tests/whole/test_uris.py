"""Names that break things, on every kind of store: each image its own row, and no other's bytes."""

from __future__ import annotations

import functools
import http.server
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

import botocore.exceptions
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import Config, run
from pipeline.inputs.access import URI_BYTES
from pipeline.labels.verify import verify
from tests.support.engines import PixelEngine
from tests.support.fetching import fetched
from tests.support.outputs import rows

NAMES = [
    "plain.jpg",
    "a b.jpg",
    " a.jpg",
    "caf\u00e9.jpg",
    "cafe\u0301.jpg",
    "%2F.jpg",
    "a%20b.jpg",
    "a%2520b.jpg",
    "%.jpg",
    "a?b.jpg",
    "a#b.jpg",
    "a+b.jpg",
    "a&b.jpg",
    "a;b=c,d@e:f.jpg",
    "a'b.jpg",
    'a"b.jpg',
    "a*b.jpg",
    "a[b].jpg",
    "a{b}.jpg",
    "a<b>|^`.jpg",
    "a\nb.jpg",
    "a\r\nb.jpg",
    "a\tb.jpg",
    "a\x01\x1b[31mb.jpg",
    "a\x7fb.jpg",
    "a\u202eb.jpg",
    "a\u200bb.jpg",
    "a\x85\u2028b.jpg",
    "\U0001f600.jpg",
    "~.jpg",
    "..jpg",
    "...jpg",
    "-rf.jpg",
    "a::b.jpg",
    "status=error.jpg",
    "a?versionId=1.jpg",
    "con.jpg",
    "$HOME.jpg",
    "caf\ufffd.jpg",
    "caf?.jpg",
    "caf%E9.jpg",
]
BACKSLASH = ["a\\b.jpg", "caf\\xe9.jpg"]
NO_UTF8 = [b"caf\xe9.jpg", b"caf\xe8.jpg", b"\xff %.jpg"]


def picture(number: int) -> bytes:
    """A small image whose width tells which one it is."""
    buffer = io.BytesIO()
    Image.new("RGB", (40 + number, 32), "white").save(buffer, "PNG")
    return buffer.getvalue()


def outcomes(output: Path, **options: Any) -> list[tuple[str, int | str]]:
    """Each URI that a whole run gives a row, with the number of its image or its error's code."""
    config = Config(
        output=str(output), weights="random:0", max_error_rate=1.0, fetch_attempts=1, **options
    )
    run(config, PixelEngine)
    found = verify(str(output))
    assert not found.breaches, {name: check.examples for name, check in found.checks.items()}
    for row in rows(str(output)):
        assert (row["error_code"] is None) == (row["detections"] is not None)
        message = row["error_message"] or ""
        assert len(message) <= 500 and all(c.isprintable() for c in message)
    return [(row["image_uri"], row["error_code"] or row["width"] - 40) for row in rows(str(output))]


def read(output: Path, source: str) -> list[tuple[str, int | str]]:
    """The same of the stages that see URIs alone: sources and fetch."""
    found = []
    for row in fetched(output, source, fetch_attempts=1):
        if row["error_code"]:
            found.append((row["image_uri"], row["error_code"]))
        else:
            image = Image.open(io.BytesIO(row["encoded"]))
            found.append((row["image_uri"], image.width - 40))
    return found


def parquet(path: Path, uris: list[str | None]) -> str:
    pq.write_table(pa.table({"uri": pa.array(uris, pa.large_string())}), path)
    return str(path)


# ------------------------------------------------------------------------------- a disk


@pytest.fixture
def disk(tmp_path: Path) -> tuple[Path, dict[str, int]]:
    """A folder, and the URIs of its images with their numbers."""
    folder = tmp_path / "in"
    folder.mkdir()
    found = {}
    names: list[str | bytes] = [*NAMES, *BACKSLASH, *NO_UTF8]
    for number, name in enumerate(names):
        raw = name if isinstance(name, bytes) else name.encode()
        path = os.fsencode(folder) + b"/" + raw
        with open(path, "wb") as file:
            file.write(picture(number))
        text = f"{folder}/{name}" if isinstance(name, str) else f"file://{quote_from_bytes(path)}"
        found[text] = number
    return folder, found


def test_a_folder(cluster: None, disk: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    folder, expected = disk
    found = read(tmp_path, str(folder))
    assert len(found) == len(expected) and dict(found) == expected
    part = {uri: number for uri, number in expected.items() if "/caf" in uri}
    assert len(part) == 8 and dict(read(tmp_path, f"{folder}/caf*.jpg")) == part


def test_a_table_of_everything(
    cluster: None, s3: Any, bucket: str, disk: tuple[Path, dict[str, int]], tmp_path: Path
) -> None:
    """Relative names, absolute ones, URLs of all schemes, what is no URI; 10 MB strings."""
    folder, on_disk = disk
    s3.put_object(Bucket=bucket, Key="x/a b#?.jpg", Body=picture(900))
    long = "s3://b/" + "x" * 10_000_000
    others: list[tuple[str | None, int | str]] = [
        (None, "no_uri"),
        ("", "no_uri"),
        (None, "no_uri"),
        (f"s3://{bucket}/x/a b#?.jpg", 900),
        (f"s3://{bucket}/x/a b.jpg", "not_found"),
        (f"s3://{bucket}", "invalid_uri"),
        (f"s3://{bucket}/", "invalid_uri"),
        ("s3:///x.jpg", "invalid_uri"),
        ("s3://", "invalid_uri"),
        ("http://127.0.0.1:9/x.jpg", "connection"),
        ("http:///x.jpg", "invalid_uri"),
        ("http://[::1/x.jpg", "invalid_uri"),
        ("http://h:99999/x.jpg", "invalid_uri"),
        ("zz://x/y.jpg", "unknown_protocol"),
        ("z\u202ez://x/y.jpg", "unknown_protocol"),
        (f"{folder}/nul\0.jpg", "invalid_uri"),
        (f"file://{folder}/nul%00.jpg", "invalid_uri"),
        (f"{folder}/plain.jpg/", "invalid_uri"),
        (f"{folder}/gone.jpg", "not_found"),
        (f"{folder}/{'y' * 300}.jpg", "read_failed"),
        (str(folder), "read_failed"),
        (f"{folder}/sub/../plain.jpg", "not_found"),
        (f"{folder}/../in/plain.jpg", on_disk[f"{folder}/plain.jpg"]),
        (f"file://{quote(str(folder))}/a%20b.jpg", on_disk[f"{folder}/a b.jpg"]),
        (f"file://localhost{quote(str(folder))}/%252F.jpg", on_disk[f"{folder}/%2F.jpg"]),
    ]
    names: list[str | None] = [uri.removeprefix(f"{folder}/") for uri in on_disk]
    names += [uri for uri, _ in others]
    names += [long, long + "y", long, f"{folder}/plain.jpg"]
    table = parquet(folder / "list.parquet", names)
    found = outcomes(tmp_path / "out", input=table)
    expected = [*on_disk.items(), *((uri or "", what) for uri, what in others)]
    assert found[:-2] == expected
    # the long ones are cut to what still tells them apart; the last two rows are repetitions
    for (uri, code), end in zip(found[-2:], ("", "y"), strict=True):
        assert code == "uri_too_long" and uri.startswith(long[:URI_BYTES] + "...sha256:")
        assert len(uri) < URI_BYTES + 100, end
    assert found[-2][0] != found[-1][0]
    assert sum(map(os.path.getsize, (tmp_path / "out").rglob("*.parquet"))) < 10**6


# ------------------------------------------------------------------------------- S3

KEYS = [
    "d/%s"
    % ("e" * 200 + "/" + "f" * 200 + "/" + "g" * 200 + "/" + "h" * 200 + "/" + "i" * 214 + ".jpg"),
    "d/a.jpg.jpg",
    "d/sta=tus/..a/x.jpg",
    "a//bb.jpg",
    "//c.jpg",
    "s3:/d.jpg",
    "x/s3://e.jpg",
]
# what SeaweedFS does not take
REFUSED = ["..", "d/../a.jpg", "./a.jpg", "d/./a.jpg", "../a.jpg", "nul\0.jpg", "k" * 1021 + ".jpg"]


@pytest.fixture
def store(s3: Any, bucket: str) -> dict[str, int]:
    """The URIs with which the images in a bucket were written there, and their numbers."""
    found = {}
    for number, key in enumerate([*NAMES, *BACKSLASH, *KEYS]):
        assert len(key.encode()) <= 1024
        s3.put_object(Bucket=bucket, Key=key, Body=picture(number))
        found[f"s3://{bucket}/{key}"] = number
    for key in REFUSED:
        with pytest.raises(botocore.exceptions.ClientError, match="InvalidRequest|KeyTooLong"):
            s3.put_object(Bucket=bucket, Key=key, Body=b"")
    return found


def stored_as(uri: str) -> str:
    """SeaweedFS takes a backslash for a slash, and one slash for several."""
    scheme, _, path = uri.partition("://")
    path = path.replace("\\", "/")
    while "//" in path:
        path = path.replace("//", "/")
    return f"{scheme}://{path}"


def judged(uri: str, number: int) -> int | str:
    # s3fs would take the rest for a version, and read the object of the name before it
    return "invalid_uri" if "?versionId=" in uri else number


def test_a_bucket(cluster: None, bucket: str, store: dict[str, int], tmp_path: Path) -> None:
    assert max(len(uri.split("/", 3)[3].encode()) for uri in store) == 1024
    found = outcomes(tmp_path / "out", input=f"s3://{bucket}")
    expected = {stored_as(uri): judged(uri, number) for uri, number in store.items()}
    assert len(found) == len(expected) and dict(found) == expected


def test_a_table_in_a_bucket(
    cluster: None, s3: Any, bucket: str, store: dict[str, int], tmp_path: Path
) -> None:
    """Relative names where they are no paths or URLs of their own, else absolute ones."""
    root = f"s3://{bucket}"
    refused = {f"{root}/{key}": "read_failed" for key in REFUSED}
    refused[f"{root}/{REFUSED[-1]}"] = "not_found"
    refused |= dict.fromkeys((uri for uri in refused if "\0" in uri), "invalid_uri")
    s3.put_object(Bucket=bucket, Key="folder.jpg/x.jpg", Body=picture(901))
    refused[f"{root}/plain.jpg/"] = "invalid_uri"
    expected = {uri: judged(uri, number) for uri, number in store.items()} | refused
    names: list[str | None] = []
    for uri in expected:
        key = uri.removeprefix(f"{root}/")
        whole = key.startswith("/") or "://" in key or {".", ".."} & {*key.split("/")}
        names.append(uri if whole else key)
    s3.upload_file(parquet(tmp_path / "list.parquet", names), bucket, "list.parquet")
    found = read(tmp_path, f"{root}/list.parquet")
    assert found == list(expected.items())


# ------------------------------------------------------------------------------- a web server


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Python's own server of a folder, with its index pages."""

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def site(disk: tuple[Path, dict[str, int]]) -> Iterator[tuple[str, dict[str, int]]]:
    """The URL of a server of the folder, and its images' URLs with their numbers."""
    folder, on_disk = disk
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    yield url, {uri.removeprefix(f"{folder}/"): number for uri, number in on_disk.items()}
    server.shutdown()
    server.server_close()


def test_a_web_server(cluster: None, site: tuple[str, dict[str, int]], tmp_path: Path) -> None:
    url, names = site
    readable = {name: number for name, number in names.items() if not name.startswith("file://")}
    found = dict(read(tmp_path, f"{url}/"))
    by_url = {f"{url}/{quote(name)}": number for name, number in readable.items()}
    assert {uri: what for uri, what in found.items() if uri in by_url} == by_url
    # Python's index pages misspell what is no UTF-8; each such name has its row all the same
    assert len(found) == len(names)
    # as URLs, and as they stand
    hidden = [name for name in readable if not any(c in name for c in "?#%")]
    control = {name for name in hidden if any(c < " " or c == "\x7f" for c in name)}
    expected = by_url | {
        f"{url}/{name}": "invalid_uri" if name in control else readable[name] for name in hidden
    }
    table = parquet(tmp_path / "list.parquet", list(expected))
    assert read(tmp_path, table) == list(expected.items())
