"""Reading from a server that misbehaves: what is tried again, what is not, what a row says."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import tenacity

from pipeline.config import Config
from pipeline.inputs import enumeration
from pipeline.outputs.layout import Layout
from pipeline.stages import patience
from pipeline.stages.fetch import Fetch
from pipeline.store import objects, web
from tests.support.faulty import Fault, Proxy
from tests.support.fetching import Silent, fetched


class Server(BaseHTTPRequestHandler):
    """Answers by the path: `/KIND/...`, counting the requests for each."""

    requests: Counter[str] = Counter()
    in_flight = most_in_flight = 0
    lock = threading.Lock()

    def do_GET(self) -> None:
        cls = type(self)
        with cls.lock:
            cls.requests[self.path] += 1
            cls.in_flight += 1
            cls.most_in_flight = max(cls.most_in_flight, cls.in_flight)
            tries = cls.requests[self.path]
        answer = self._answer(self.path.split("/")[1], tries)
        with cls.lock:  # before the client has it, and may ask again
            cls.in_flight -= 1
        if answer:
            self._send(*answer)

    def _answer(self, kind: str, tries: int) -> tuple[int, bytes] | tuple[int, bytes, int] | None:
        body = b"image bytes"
        if kind.isdecimal():
            return int(kind), b"no"
        if kind.startswith("twice") and tries <= 2:
            return int(kind.removeprefix("twice")), b"not yet"
        if kind == "busy" and tries <= 9:
            return 429, b"slow down"
        if kind == "reset" and tries <= 1:
            self.close_connection = True
            return None
        if kind == "short" and tries <= 1:
            return 200, body, 100
        if kind == "hang" and tries <= 1:
            time.sleep(3)
        if kind == "slow":
            time.sleep(0.05)
        if kind == "large":
            body = b"x" * 3000
        if kind == "huge":
            body = b"x" * 2**20
        return 200, body

    def _send(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        if length is not None:
            self.close_connection = True

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    Server.requests.clear()
    Server.most_in_flight = 0
    http = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_address[1]}"
    http.shutdown()
    http.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, cluster: None) -> None:
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())


def of_uris(tmp_path: Path, uris: list[str], **options: Any) -> list[dict[str, Any]]:
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "list.txt").write_text("\n".join(uris))
    rows = fetched(tmp_path, str(tmp_path / "list.txt"), **options)
    assert [row["image_uri"] for row in rows] == uris
    return rows


@pytest.mark.parametrize(
    "kind,attempts",
    [
        ("ok", 1),
        *((f"twice{status}", 3) for status in (503, 429, 500)),
        *((kind, 2) for kind in ("reset", "short", "hang")),
    ],
)
def test_what_passes(server: str, tmp_path: Path, kind: str, attempts: int) -> None:
    (row,) = of_uris(tmp_path, [f"{server}/{kind}/a.jpg"], fetch_timeout=1.0)
    assert row["encoded"] == b"image bytes" and row["error_code"] is None
    assert Server.requests[f"/{kind}/a.jpg"] == attempts
    # the HTTP client itself tries again once where the server hung up before it answered
    assert row["attempts"] == (1 if kind == "reset" else attempts)


@pytest.mark.parametrize(
    "kind,code,attempts",
    [
        ("404", "not_found", 1),
        ("403", "forbidden", 1),
        ("401", "forbidden", 1),
        ("503", "server_error", 3),
    ],
)
def test_what_does_not(server: str, tmp_path: Path, kind: str, code: str, attempts: int) -> None:
    rows = of_uris(tmp_path, [f"{server}/{kind}/a.jpg", f"{server}/ok/b.jpg"], fetch_attempts=3)
    assert (rows[0]["error_stage"], rows[0]["error_code"]) == ("fetch", code)
    assert rows[0]["attempts"] == attempts == Server.requests[f"/{kind}/a.jpg"]
    assert rows[0]["encoded"] is None and rows[0]["error_message"]
    assert rows[1]["encoded"] == b"image bytes"


def test_a_server_that_is_asked_too_often(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at once: the server has answered before."""
    options = {"fetch_concurrency": 1, "fetch_attempts": 3}
    (_, row) = of_uris(tmp_path, [f"{server}/{kind}/a.jpg" for kind in ("ok", "busy")], **options)
    assert (row["encoded"], row["attempts"]) == (b"image bytes", 10)
    monkeypatch.setattr(patience, "OUTAGE_SECONDS", 0.0)
    (_, row) = of_uris(
        tmp_path / "o", [f"{server}/{kind}/a.jpg" for kind in ("ok", "429")], **options
    )
    assert (row["error_code"], row["attempts"]) == ("throttled", 3)


def test_no_server(tmp_path: Path) -> None:
    (row,) = of_uris(tmp_path, ["http://127.0.0.1:9/a.jpg"], fetch_attempts=2)
    assert (row["error_code"], row["attempts"]) == ("connection", 2)


def test_many_in_flight_but_no_more(server: str, tmp_path: Path) -> None:
    uris = [f"{server}/slow/{number}.jpg" for number in range(60)]
    rows = of_uris(tmp_path, uris, fetch_concurrency=8)
    assert all(row["encoded"] for row in rows)
    assert 4 <= Server.most_in_flight <= 8


def test_large_objects(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all of one came in the place of a range, which is not taken."""
    for small in (2**24, 2999):
        monkeypatch.setattr(web, "WHOLE_BYTES", small)
        (row,) = of_uris(tmp_path / str(small), [f"{server}/large/a.jpg"], max_object_bytes=2998)
        assert row["error_code"] == "object_too_large" and row["attempts"] == 1
        assert row["error_message"] == "over max_object_bytes, which is 2998"
    (row,) = of_uris(tmp_path, [f"{server}/large/a.jpg"], max_object_bytes=3000)
    assert len(row["encoded"]) == 3000


def test_a_large_tiff_of_a_server_without_ranges(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows need ranges; the whole does not, if it is not too large."""
    monkeypatch.setattr(web, "WHOLE_BYTES", 2**19)
    (row,) = of_uris(tmp_path, [f"{server}/huge/a.tif"], tile=256)
    assert row["error_code"] is None and len(row["encoded"]) == 2**20
    (row,) = of_uris(tmp_path / "o", [f"{server}/huge/a.tif"], tile=256, max_object_bytes=2**18)
    assert row["error_code"] == "object_too_large"


def test_uris_that_cannot_be(s3: Any, bucket: str, tmp_path: Path) -> None:
    s3.put_object(Bucket=bucket, Key="zero.jpg", Body=b"")
    expected = {
        "/etc/hostname": "uri_not_allowed",
        "file:///etc/hostname": "uri_not_allowed",
        "local:///etc/hosts": "uri_not_allowed",
        "zz://x/y.jpg": "unknown_protocol",
        "zero.jpg": None,
        "gone.jpg": "not_found",
        "s3://no-such-bucket-here/a.jpg": "not_found",
    }
    s3.put_object(Bucket=bucket, Key="list.txt", Body="\n".join(expected).encode())
    codes = [row["error_code"] for row in fetched(tmp_path, f"s3://{bucket}/list.txt")]
    assert codes == list(expected.values())
    pq.write_table(pa.table({"uri": [None, "/gone.jpg"]}), tmp_path / "t.parquet")
    codes = [row["error_code"] for row in fetched(tmp_path / "b", str(tmp_path / "t.parquet"))]
    assert codes == ["no_uri", "not_found"]


def test_embedded(tmp_path: Path) -> None:
    images = [{"bytes": b"%d" % n if n != 2 else None, "path": None} for n in range(5)]
    pq.write_table(pa.table({"image": images}), tmp_path / "t.parquet", row_group_size=2)
    rows = fetched(tmp_path, str(tmp_path / "t.parquet"), bytes_column="image")
    assert [row["encoded"] for row in rows] == [b"0", b"1", None, b"3", b"4"]
    assert rows[2]["error_code"] == "no_bytes"


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.binary(3),
        pa.dictionary(pa.int32(), pa.binary()),
    ],
    ids=str,
)
def test_types_of_bytes(kind: pa.DataType, tmp_path: Path) -> None:
    values = [b"abc", None, b"def", b"abc"]
    column = pa.array(values, getattr(kind, "value_type", kind))
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column
    struct = pa.StructArray.from_arrays([column], ["bytes"])
    pq.write_table(pa.table({"image": column, "in": struct}), tmp_path / "t.parquet")
    assert pq.read_schema(tmp_path / "t.parquet").field("image").type == kind
    for name in ("image", "in"):
        rows = fetched(tmp_path / name, str(tmp_path / "t.parquet"), bytes_column=name)
        assert [row["encoded"] for row in rows] == values
        assert rows[1]["error_code"] == "no_bytes"


def test_paths_in_the_place_of_bytes(s3: Any, bucket: str, tmp_path: Path) -> None:
    """They are URIs of the table, under the rules for those; the row keeps its name."""
    s3.put_object(Bucket=bucket, Key="in/x/a.jpg", Body=b"of the path")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    given = [
        (b"bytes", "x/a.jpg", (b"bytes", None)),
        (None, "./x/y/../a.jpg", (b"of the path", None)),
        (None, f"S3://{bucket}/in/x/a.jpg", (b"of the path", None)),
        (None, str(tmp_path / "secret.jpg"), (None, "uri_not_allowed")),
        (None, "gone.jpg", (None, "not_found")),
        (None, None, (None, "no_bytes")),
        (None, "", (None, "no_bytes")),
        (b"", "x/a.jpg", (b"", None)),
    ]
    for name, some in (("mixed", given), ("paths", given[1:3])):  # of the latter, bytes is `null`
        table = pa.table({"image": [{"bytes": data, "path": path} for data, path, _ in some]})
        pq.write_table(table, tmp_path / "t.parquet", row_group_size=3)
        s3.upload_file(str(tmp_path / "t.parquet"), bucket, f"in/{name}.parquet")
        source = f"s3://{bucket}/in/{name}.parquet"
        rows = fetched(tmp_path / name, source, bytes_column="image", fetch_attempts=1)
        assert [(row["encoded"], row["error_code"]) for row in rows] == [end for *_, end in some]
        assert [row["image_uri"] for row in rows] == [f"{source}#{n}" for n in range(len(some))]


def test_finished_images_are_not_read_again(server: str, tmp_path: Path) -> None:
    uris = [f"{server}/ok/{number}.jpg" for number in range(10)]
    (tmp_path / "list.txt").write_text("\n".join(uris))
    config = Config(input=str(tmp_path / "list.txt"), output=str(tmp_path / "out"))
    found = enumeration.write(config, Layout.of(config.output), "")
    done = ray.put(np.arange(10) % 2 == 0)
    stage = Fetch(config, found, 0, done, Silent())  # type: ignore[arg-type]
    rows = pa.concat_tables(stage(pa.table({"start": [0], "rows": [8]}))).to_pylist()
    assert [row["image_id"] for row in rows] == [1, 3, 5, 7]
    assert len(Server.requests) == 4


def test_an_archived_object(cluster: None, s3: Any, bucket: str, tmp_path: Path) -> None:
    """Asked for once, by the options of the run."""
    s3.put_object(Bucket=bucket, Key="a.jpg", Body=b"x")
    with Proxy(s3.meta.endpoint_url) as proxy:
        proxy.faults = [Fault("InvalidObjectState", path="a.jpg")]
        options = {"endpoint_url": proxy.url}
        (row,) = fetched(tmp_path, f"s3://{bucket}/", s3_options=options)
        assert proxy.injected["InvalidObjectState"] == 1
    assert (row["error_code"], row["attempts"]) == ("archived", 1)
    assert row["error_message"].startswith("archived, in a storage class such as GLACIER; restore")


def test_a_header_that_is_refused_is_an_error_of_decoding(cluster: None, tmp_path: Path) -> None:
    """Also where the image is too large to be read for it."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.tif").write_bytes(b"MM\0+" + bytes(1000))
    (row,) = fetched(tmp_path, f"{tmp_path}/in", tile=1024, max_object_bytes=999)
    assert (row["error_stage"], row["error_code"]) == ("decode", "unsupported_mode")
