"""Frames of videos as a fetch hands them on: encoded without loss, each error a row."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenacity
from PIL import Image

from pipeline.inputs.containers.video.pool import Videos
from pipeline.store import objects
from tests.support import videos
from tests.support.faulty import CUT, RESET, Fault, Proxy
from tests.support.fetching import Silent, fetched


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, cluster: None) -> None:
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())


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


def test_a_decoder_that_hangs_is_ended_with_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def die(self: Silent, reason: str) -> None:
        raise RuntimeError(f"dies: {reason}")

    monkeypatch.setattr(Videos, "image", lambda *_: ended.wait())
    monkeypatch.setattr(Silent, "die", die, raising=False)
    path = videos.write(tmp_path / "a.mp4", range(1))
    (row,) = fetched(tmp_path, path, every_nth=1, fetch_timeout=0.1)
    ended.set()
    assert row["error_message"].endswith(f"dies: the video decoder hangs at {path}#t=0.000")


def test_limits_are_of_each_frame(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.mp4", range(2))
    rows = fetched(tmp_path, path, every_nth=1, max_pixels=64 * 48 - 1)
    assert [row["error_code"] for row in rows] == ["member_unreadable"] * 2
    assert "64x48 is over max_pixels" in rows[0]["error_message"]
