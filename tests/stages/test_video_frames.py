"""Frames of videos as a fetch hands them on: encoded without loss, each error a row."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenacity
from PIL import Image

from pipeline.errors import UsageError
from pipeline.inputs.containers import reading
from pipeline.inputs.containers.video import process
from pipeline.store import objects, web
from tests.support import hostile_videos, videos
from tests.support.faulty import CUT, RESET, Fault, Proxy
from tests.support.fetching import fetched


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, cluster: None) -> Iterator[None]:
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())
    yield
    reading.VIDEOS.close()


def numbers(rows: list[dict[str, Any]]) -> list[int]:
    assert not [row["error_message"] for row in rows if row["error_code"]]
    return [videos.number(np.asarray(Image.open(io.BytesIO(row["encoded"])))) for row in rows]


def test_from_a_bucket_through_faults(s3: Any, bucket: str, tmp_path: Path) -> None:
    for name, first in (("a.mp4", 0), ("b.ts", 40)):
        path = videos.write(tmp_path / name, range(first, first + 40))
        s3.put_object(Bucket=bucket, Key=f"in/{name}", Body=Path(path).read_bytes())
    with Proxy(s3.meta.endpoint_url) as proxy:
        proxy.faults = [Fault(CUT, 0.3, ".mp4"), Fault(RESET, 0.3, ".ts")]
        options = {"s3_options": {"endpoint_url": proxy.url}}
        rows = fetched(tmp_path, f"s3://{bucket}/in/", every_nth=3, **options)
    assert numbers(rows) == [*range(0, 40, 3), *range(40, 80, 3)]
    assert rows[1]["video_uri"] == f"s3://{bucket}/in/a.mp4" and rows[1]["frame_index"] == 3
    assert rows[0]["encoded"][:2] == b"BM" and rows[0]["size_bytes"] == len(rows[0]["encoded"])


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bad.mp4").write_bytes(bytes(5000))
    videos.write(tmp_path / "in/good.mp4", range(2))
    bad, *good = fetched(tmp_path, str(tmp_path / "in"), every_nth=1)
    assert bad["error_code"] == "container_damaged" and bad["encoded"] is None
    assert numbers(good) == [0, 1]


@pytest.mark.parametrize(
    "word, code, message",
    [
        (hostile_videos.ABORTS_LATER, "member_unreadable", "the decoder crashed on it"),
        (hostile_videos.HANGS_LATER, "timeout", "no picture after 1.5 times fetch_timeout"),
    ],
)
def test_frames_over_which_the_decoder_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: bytes, code: str, message: str
) -> None:
    """Each is lost alone; the actor lives."""
    monkeypatch.setattr(process, "SERVING", hostile_videos.SERVING)
    (tmp_path / "in").mkdir()
    path = Path(videos.write(tmp_path / "in/a.mp4", range(13)))
    path.write_bytes(path.read_bytes() + b"\n" + word)
    videos.write(tmp_path / "in/b.mp4", range(30, 32))
    rows = fetched(tmp_path, str(tmp_path / "in"), every_nth=12, fetch_timeout=2)
    assert [(row["error_code"], row["error_message"]) for row in rows[1:2]] == [(code, message)]
    assert numbers([rows[0], *rows[2:]]) == [0, 30]


class Whole(SimpleHTTPRequestHandler):
    """Answers to every range with the whole file."""

    reads = 0

    def do_GET(self) -> None:
        Whole.reads += 1
        super().do_GET()

    def log_message(self, *_: Any) -> None: ...


class Ranges(Whole):
    """Answers with the range that was asked for."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        outputfile.write(source.read()[self.start : self.end])

    def send_response(self, code: int, message: str | None = None) -> None:
        start, _, end = self.headers.get("Range", "bytes=0-").partition("=")[2].partition("-")
        self.start, self.end = int(start), int(end) + 1 if end else None
        super().send_response(206 if "Range" in self.headers else code, message)

    def send_header(self, keyword: str, value: str) -> None:
        if keyword == "Content-Length":
            value = str(len(range(int(value))[self.start : self.end]))
        super().send_header(keyword, value)


@pytest.mark.parametrize(
    "handler, small, reads", [(Ranges, 2**24, 99), (Whole, 2**24, 3), (Whole, 20, 5)]
)
def test_on_the_web(
    tmp_path: Path,
    handler: type[Whole],
    small: int,
    reads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without ranges the video is read once as a whole for each of its readers, small or not."""
    monkeypatch.setattr(web, "WHOLE_BYTES", small)
    videos.write(tmp_path / "a.ts", range(200))
    Whole.reads = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/a.ts"
        assert numbers(fetched(tmp_path / "o", url, every_nth=40)) == list(range(0, 200, 40))
        assert Whole.reads <= reads
        limited = {"every_nth": 40, "max_object_bytes": 20_000}
        if handler is Ranges:
            assert len(fetched(tmp_path / "p", url, **limited)) == 5
        else:
            with pytest.raises(
                UsageError, match="its web server does not support ranges, and the whole file"
            ):
                fetched(tmp_path / "p", url, **limited)
        server.shutdown()


def test_limits_are_of_each_frame(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.mp4", range(2))
    rows = fetched(tmp_path, path, every_nth=1, max_pixels=64 * 48 - 1)
    assert [row["error_code"] for row in rows] == ["member_unreadable"] * 2
    assert "64x48 is over max_pixels" in rows[0]["error_message"]
