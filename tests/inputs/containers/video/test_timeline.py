"""Which frames a video has, by its packets."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.inputs.containers.video.flaws import Flaw, Flawed
from pipeline.inputs.containers.video.timeline import Timeline, read_timeline
from tests.support import videos


def timeline(path: str) -> Timeline:
    with open(path, "rb") as file:
        return read_timeline(file, 10**6)


def flaw(data: bytes) -> Flaw:
    with pytest.raises(Flawed) as caught:
        read_timeline(io.BytesIO(data), 10**6)
    return caught.value.flaw


def test_times_and_keyframes(tmp_path: Path) -> None:
    found = timeline(videos.write(tmp_path / "a.mp4"))
    assert np.allclose(found.seconds, np.arange(40) / 25)
    assert np.flatnonzero(found.is_key).tolist() == [0, 12, 24, 36]
    assert found.earlier[[0, 12, 24]].tolist() == [*found.stamps[[0, 0, 12]].tolist()]
    assert (found.width, found.height, found.flaw) == (64, 48, None)


def test_variable_rate_and_a_late_start(tmp_path: Path) -> None:
    stamps = [5000, 5001, 5100, 7000, 7020]
    path = videos.write(tmp_path / "a.mkv", range(5), stamps=stamps, time_base=Fraction(1, 1000))
    assert timeline(path).seconds.tolist() == [0, 0.001, 0.1, 2.0, 2.02]


def test_an_edit_list_hides_frames_but_not_their_keyframe(tmp_path: Path) -> None:
    path, trimmed = videos.write(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    with av.open(path) as source, av.open(str(trimmed), "w") as file:
        stream: Any = file.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size and packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts = packet.pts - 17 * 512, packet.dts - 17 * 512
                packet.stream = stream
                file.mux(packet)
    found = timeline(str(trimmed))
    assert np.allclose(found.seconds, np.arange(23) / 25)
    assert found.keys[0] < found.stamps[0]


def test_what_is_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Playlists and scripts are none: they would open what else is on this machine."""
    monkeypatch.chdir(tmp_path)
    sound = Path(videos.write_sound(tmp_path / "a.mp4")).read_bytes()
    assert flaw(sound) is Flaw.NO_PICTURES
    other = videos.write(tmp_path / "a.ts")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{other}\n#EXT-X-ENDLIST\n"
    scripts = [f"ffconcat version 1.0\nfile '{name}'\n" for name in (other, "a.ts")]
    for text in ("", "\0" * 9000, "text\n" * 99, playlist, *scripts):
        assert flaw(text.encode()) is Flaw.NOT_ONE


@pytest.mark.parametrize("ending", ["h264", "avi"])
def test_a_video_that_does_not_say_when_its_frames_are_shown(tmp_path: Path, ending: str) -> None:
    """AVI does not, and FFmpeg's libraries guess wrong for H.264 with B-frames."""
    path = videos.write(tmp_path / f"a.{ending}")
    assert flaw(Path(path).read_bytes()) is Flaw.UNTIMED


@pytest.mark.parametrize("ending, codec", [("mkv", "libx264"), ("avi", "mpeg4")])
def test_a_video_that_is_cut_off(tmp_path: Path, ending: str, codec: str) -> None:
    path = videos.write(tmp_path / f"a.{ending}", range(200), codec=codec)
    data = Path(path).read_bytes()
    found = read_timeline(io.BytesIO(data[: len(data) * 2 // 3]), 10**6)
    assert found.flaw is Flaw.CUT
    assert 50 < len(found.stamps) < 180
    assert flaw(data[:200]) in (Flaw.NO_FRAMES, Flaw.NOT_ONE, Flaw.NO_PICTURES)


def test_times_that_jump_back(tmp_path: Path) -> None:
    one = Path(videos.write(tmp_path / "a.ts", range(12))).read_bytes()
    assert flaw(one + one) is Flaw.JUMPING
