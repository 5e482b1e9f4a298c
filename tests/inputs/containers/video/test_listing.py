"""Videos among the files of an input."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from pipeline import Config
from pipeline.config import EXTENSIONS_BEFORE
from pipeline.errors import RunError, UsageError
from pipeline.inputs import enumeration
from pipeline.inputs.containers.video import opening, process
from pipeline.inputs.containers.video.flaws import reason
from pipeline.inputs.sources import open_source
from tests.support import hostile_videos, packed, videos


def listed(source: Path | str, **options: Any) -> list[dict[str, Any]]:
    config = Config(input=str(source), output="/nowhere", **options)
    rows: list[dict[str, Any]] = pa.concat_tables(open_source(config).read()).to_pylist()
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, one with five seconds of frames that lie in one; an image; what is no video."""
    root = tmp_path_factory.mktemp("videos")
    videos.write(root / "a.mp4", range(30))
    (root / "b.mp4").write_bytes(b"no video" * 99)
    Image.fromarray(videos.picture(7)).save(root / "c.png")
    videos.write(root / "d.mkv", range(10), rate=10)
    (root / "notes.md").write_text("")
    return root


def test_frames_between_images(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rows = listed(folder, fps=5)
    names = [row["image_uri"].removeprefix(f"{folder}/") for row in rows]
    assert names == [
        *(f"a.mp4#t={time}" for time in "0.000 0.200 0.400 0.600 0.800 1.000".split()),
        "b.mp4",
        "c.png",
        *(f"d.mkv#t={time}" for time in "0.000 0.200 0.400 0.600 0.800".split()),
    ]
    assert [row["frame_index"] for row in rows] == [0, 5, 10, 15, 20, 25, None, None, 0, 2, 4, 6, 8]
    assert rows[1]["time_seconds"] == 0.2 and rows[1]["video_uri"] == f"{folder}/a.mp4"
    assert rows[7]["video_uri"] is None and rows[7]["source_uri"] is None
    assert rows[6]["source_kind"] == "video_flaw"
    assert "11 frames of 2 videos" in caplog.text


def test_more_frames_a_second_than_there_are(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each frame once, and one line that says so."""
    caplog.set_level(logging.INFO)
    assert len(listed(folder, fps=20)) == 24 + 10 + 2
    assert "in 1 video with fewer than 20 frames a second, each frame is read once" in caplog.text


def test_times_closer_than_a_millisecond(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.mp4", range(4), rate=2400)
    assert [row["image_uri"].partition("#")[2] for row in listed(path, every_nth=1)] == [
        "t=0.000000",
        "t=0.000417",
        "t=0.000833",
        "t=0.001250",
    ]


def test_a_video_that_is_cut_off_ends_in_a_row_that_says_so(tmp_path: Path) -> None:
    data = Path(videos.write(tmp_path / "a.mkv", range(200))).read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: len(data) * 2 // 3])
    *frames, last = listed(tmp_path / "a.mkv", keyframes=True)
    assert last["image_uri"] == str(tmp_path / "a.mkv") and last["source_place"][1] > 3000
    assert len(frames) > 5 and {row["source_kind"] for row in frames} == {"video"}


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("", {"extensions": "mp4"}, "are videos: choose their frames with --fps"),
        ("a.mp4", {}, ".mp4 files are videos: choose their frames"),
        ("*.mkv", {}, ".mkv files are videos: choose their frames"),
        ("", {"extensions": "png", "fps": 1}, "are for videos, and extensions names none"),
        ("a.csv", {"fps": 1}, "are for a listing; the input is a table"),
        ("b.mp4", {"fps": 1}, "b.mp4: not a video of a known format, or cut off"),
        ("", {"fps": 0}, "fps must be a number above 0"),
        ("", {"every_nth": 0.5}, "every_nth must be a whole number above 0"),
        ("", {"fps": 1, "keyframes": True}, "fps, every_nth and keyframes: give one of them"),
    ],
)
def test_one_line_for_what_cannot_be(
    folder: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        listed(folder / name, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_that_lists_by_earlier_endings(folder: Path) -> None:
    before = listed(folder, fps=1, extensions=EXTENSIONS_BEFORE[-1])
    assert before == listed(folder, fps=1) and len(before) > 1


def test_without_pyav(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"videos need PyAV: pip install '\.\[video\]' in the clone"
    ):
        listed(folder, fps=1)


def test_videos_are_passed_over_where_none_is_asked_for(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As before there were any, without PyAV, and with a word of what would read them."""
    caplog.set_level(logging.INFO)
    config = Config(input=str(folder), output="/nowhere")
    assert enumeration.count(config).rows == 1
    assert "2 .mp4, 1 .mkv" in caplog.text and "--fps 1 reads 3 videos" in caplog.text


def test_videos_in_archives_are_passed_over_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No flag that reads them is named, for none does."""
    caplog.set_level(logging.INFO)
    data = Path(videos.write(tmp_path / "a.mp4", range(2))).read_bytes()
    packed_images = [("x/b.mp4", data), ("x/c.mp4", data)]
    (tmp_path / "d.tar").write_bytes(packed.tar(packed_images))
    config = Config(
        input=str(tmp_path), output="/nowhere", every_nth=1, extensions=("mp4", "tar", "png")
    )
    assert enumeration.count(config).rows == 2
    assert "passed over 2 files: 2 archived videos" in caplog.messages


def test_videos_over_which_libav_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends in a row, and those beside it are listed."""
    monkeypatch.setattr(process, "SERVING", hostile_videos.SERVING)
    for name, word in (("b", hostile_videos.ABORTS), ("c", hostile_videos.HANGS)):
        (tmp_path / f"{name}.mp4").write_bytes(word)
    for name in "ad":
        videos.write(tmp_path / f"{name}.mp4", range(2))
    rows = listed(tmp_path, every_nth=1, fetch_timeout=2)
    assert [(Path(row["image_uri"]).name, row["source_kind"]) for row in rows] == [
        ("a.mp4#t=0.000", "video"),
        ("a.mp4#t=0.040", "video"),
        ("b.mp4", "video_flaw"),
        ("c.mp4", "video_flaw"),
        ("d.mp4#t=0.000", "video"),
        ("d.mp4#t=0.040", "video"),
    ]
    assert [reason(*row["source_place"])[1] for row in rows[2:4]] == [
        "the video reader crashed on it",
        "the video reader did not finish with it",
    ]
    with pytest.raises(UsageError, match="cannot read .*b.mp4: the video reader crashed"):
        listed(tmp_path / "b.mp4", every_nth=1)


def test_a_process_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No video is to blame."""
    monkeypatch.setattr(process, "SERVING", "raise SystemExit(1)")
    with pytest.raises(RunError, match="the process that reads videos did not start"):
        listed(videos.write(tmp_path / "a.mp4", range(2)), every_nth=1)
