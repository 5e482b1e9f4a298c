"""The pixels of frames: the right ones, or an error."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.errors import Code
from pipeline.inputs.containers.members import MemberError
from pipeline.inputs.containers.video.frames import Frames, Place
from pipeline.inputs.containers.video.timeline import Timeline, read_timeline
from tests.support import videos

MANY = 10**6
OPEN = {"x264-params": f"{videos.H264['x264-params']}:open-gop=1"}
REFRESH = {"x264-params": "keyint=12:intra-refresh=1:bframes=0"}
KINDS = {
    "b-frames.mp4": {},
    "fragments.mp4": {"container": {"movflags": "frag_keyframe+empty_moov"}},
    "no-index.ts": {},
    "open-groups.mkv": {"options": OPEN},
    "intra-refresh.mkv": {"options": REFRESH},
    "b-frames.avi": {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "12"}},
    "motion-jpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "lossless.mkv": {"codec": "ffv1"},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "b-frames.flv": {},
}


def places(timeline: Timeline) -> list[Place]:
    columns = (timeline.stamps, timeline.keys, timeline.earlier)
    return [Place(*map(int, place)) for place in zip(*columns, strict=True)]


def read(data: bytes, wanted: Any = slice(None)) -> list[Any]:
    """Pixels or errors, of the frames that are wanted."""
    found = places(read_timeline(io.BytesIO(data), MANY))[wanted]
    frames = Frames(io.BytesIO(data), MANY, 60.0)
    outcomes: list[Any] = []
    for place in found:
        try:
            outcomes.append(frames.image(place))
        except MemberError as error:
            outcomes.append(error)
    frames.close()
    return outcomes


def in_sequence(data: bytes) -> Iterator[np.ndarray]:
    """All frames as PyAV alone decodes them, from the first to the last."""
    with av.open(io.BytesIO(data), "r") as file:
        for frame in file.decode(video=0):
            yield frame.reformat(format="rgb24", interpolation="BICUBIC").to_ndarray()


@pytest.mark.parametrize("name", KINDS)
def test_each_frame_is_that_of_decoding_all(tmp_path: Path, name: str) -> None:
    options: Any = KINDS[name]
    data = Path(videos.write(tmp_path / name, **options)).read_bytes()
    expected = list(in_sequence(data))
    assert len(expected) == 40
    alone = (slice(number, number + 1) for number in (12, 17, 33, 39))
    for wanted in (slice(None), slice(1, None, 7), slice(3, None, 24), *alone):
        found = read(data, wanted)
        assert [isinstance(pixels, MemberError) for pixels in found] == [False] * len(found)
        assert np.array_equal(found, expected[wanted])
        # which of the frames they are can be read off them, so PyAV is not alone in saying so
        assert [videos.number(p) for p in found] == list(range(40))[wanted]


def test_in_any_order(tmp_path: Path) -> None:
    data = Path(videos.write(tmp_path / "a.mp4")).read_bytes()
    order = [39, 0, 20, 21, 20, 5, 38]
    found = places(read_timeline(io.BytesIO(data), MANY))
    frames = Frames(io.BytesIO(data), MANY, 60.0)
    assert [videos.number(frames.image(found[number])) for number in order] == order
    frames.close()


def test_frames_that_come_unevenly(tmp_path: Path) -> None:
    stamps = [0, 1, 30, 31, 2000, 2001, 2002]
    path = videos.write(tmp_path / "a.mkv", range(7), stamps=stamps, time_base=Fraction(1, 1000))
    found = read(Path(path).read_bytes())
    assert [videos.number(pixels) for pixels in found] == list(range(7))


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_turned_upright(tmp_path: Path, turn: int) -> None:
    """As FFmpeg's display matrix says it: by so many degrees counterclockwise."""
    path = videos.write(tmp_path / "a.mp4", range(3), rotation=turn)
    data = Path(path).read_bytes()
    stored = list(in_sequence(data))
    assert np.array_equal(read(data), [np.rot90(pixels, turn // 90) for pixels in stored])


def damaged(data: bytes, number: int) -> bytes:
    """The video with the middle of one packet overwritten."""
    with av.open(io.BytesIO(data), "r") as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
        packet = packets[number]
        assert packet.pos is not None
    start = packet.pos + packet.size // 3
    return data[:start] + bytes(packet.size // 2) + data[start + packet.size // 2 :]


@pytest.mark.parametrize("name", ["b-frames.mp4", "b-frames.avi", "open-groups.mkv"])
def test_nothing_that_is_made_of_a_damaged_frame(tmp_path: Path, name: str) -> None:
    options: Any = KINDS[name]
    data = Path(videos.write(tmp_path / name, **options)).read_bytes()
    expected = list(in_sequence(data))
    failed = 0
    for number in range(13, 24):
        for pixels, right in zip(read(damaged(data, number)), expected, strict=True):
            if isinstance(pixels, MemberError):
                assert pixels.code == Code.MEMBER_UNREADABLE
                failed += 1
            else:
                assert np.array_equal(pixels, right)
    assert 0 < failed < 11 * 24  # no more than two groups of pictures


def test_frames_of_vp8_that_are_never_shown(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.webm", range(20), codec="libvpx", options={"g": "10"})
    hidden = io.BytesIO()
    with av.open(path) as source, av.open(hidden, "w", format="webm") as file:
        stream: Any = file.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size:
                content = bytearray(bytes(packet))
                content[0] &= 0xEF if number == 13 else 0xFF
                copy = av.Packet(bytes(content))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.is_keyframe, copy.stream = packet.is_keyframe, stream
                file.mux(copy)
    found = read(hidden.getvalue())
    shown = [number for number in range(20) if number != 13]
    assert [videos.number(pixels) for pixels in found] == shown


def test_chroma_of_more_than_8_bits_lies_left_of_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As HEVC has it where it does not say; of 8 bits no chroma is interpolated."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    monkeypatch.setattr(videos, "picture", lambda number: noise)
    path = videos.write(tmp_path / "a.mkv", range(2), codec="libx265", pixels="yuv420p10le")
    expected = []
    with av.open(path) as file:
        graph = av.filter.Graph()
        scale = graph.add("scale", "flags=bicubic:in_h_chr_pos=0:in_v_chr_pos=128")
        links: Any = graph.add_buffer(template=file.streams.video[0]), scale
        links[0].link_to(scale)
        scale.link_to(made := graph.add("format", "pix_fmts=rgb24"))
        made.link_to(graph.add("buffersink"))
        graph.configure()
        for frame in file.decode(video=0):
            graph.push(frame)
            shown: Any = graph.pull()
            expected.append(shown.to_ndarray())
    assert np.array_equal(read(Path(path).read_bytes()), expected)


def test_larger_than_max_pixels(tmp_path: Path) -> None:
    data = Path(videos.write(tmp_path / "a.mp4", range(3))).read_bytes()
    place = places(read_timeline(io.BytesIO(data), MANY))[0]
    frames = Frames(io.BytesIO(data), 64 * 48 - 1, 60.0)
    with pytest.raises(MemberError, match="64x48 is over max_pixels"):
        frames.image(place)
    frames.close()


def test_a_machine_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The video was listed by one that has it."""
    data = Path(videos.write(tmp_path / "a.mp4", range(2))).read_bytes()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        MemberError, match=r"pip install '\.\[video\]' in the clone, or on a cluster"
    ):
        Frames(io.BytesIO(data), MANY, 60.0)


def test_another_video_by_now(tmp_path: Path) -> None:
    old = Path(videos.write(tmp_path / "a.mp4")).read_bytes()
    new = Path(videos.write(tmp_path / "b.mp4", range(9), rate=7)).read_bytes()
    frames = Frames(io.BytesIO(new), MANY, 60.0)
    with pytest.raises(MemberError) as caught:
        frames.image(places(read_timeline(io.BytesIO(old), MANY))[-1])
    assert caught.value.code == Code.CONTAINER_CHANGED
    frames.close()


def test_a_file_that_fails(tmp_path: Path) -> None:
    """Its own error comes out, so that it is known whether it can pass."""
    data = Path(videos.write(tmp_path / "a.ts", range(200))).read_bytes()
    place = places(read_timeline(io.BytesIO(data), MANY))[-1]

    class Failing(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += 1
            if self.reads > 2:
                raise ConnectionError("away")
            return super().read(min(size or 0, 4096))

    with pytest.raises(ConnectionError, match="away"):
        Frames(Failing(data), MANY, 60.0).image(place)
