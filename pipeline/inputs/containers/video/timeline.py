"""When each frame of a video is shown: from its packets, without decoding one."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from pipeline.inputs.containers.video.flaws import FRAMES, Flaw, Flawed
from pipeline.inputs.containers.video.opening import Readable, is_shown, opened

if TYPE_CHECKING:
    from av import Packet, VideoStream
    from av.container import InputContainer
    from av.stream import Stream

# by so much the end may come earlier than the header says
LATE_SECONDS = 0.5


@dataclass(frozen=True)
class Timeline:
    """The frames of a video in the order in which they are shown, from its first keyframe on.

    Attributes:
        stamps: [frames] int64, ascending, in units of `time_base`.
        keys: [frames] int64, the stamp of the keyframe from which each can be decoded.
        earlier: [frames] int64, that of the keyframe before it; the same for the first.
        time_base: seconds.
        width, height: in pixels, as stored.
        flaw: why frames are missing at the end; None if none is.
        end: milliseconds until the end, or the flaw.
    """

    stamps: np.ndarray
    keys: np.ndarray
    earlier: np.ndarray
    time_base: Fraction
    width: int
    height: int
    flaw: Flaw | None
    end: int

    @property
    def seconds(self) -> np.ndarray:
        """[frames] float64, from the first frame on."""
        since: np.ndarray = self.stamps - self.stamps[0]
        return since * self.time_base.numerator / self.time_base.denominator

    @property
    def is_key(self) -> np.ndarray:
        """[frames] bool."""
        found: np.ndarray = self.stamps == self.keys
        return found


class _Packets:
    """What is kept of the packets of a container: stamps of frames, in the order of decoding."""

    def __init__(self) -> None:
        self.stamps, self.is_key, self.is_shown = array("q"), bytearray(), bytearray()
        self.end = 0.0  # seconds, of all streams
        self.last: int | None = None

    def add(self, packet: Packet[Stream], is_of_video: bool) -> None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None and packet.time_base:
            end = (stamp + (packet.duration or 0)) * packet.time_base
            self.end = max(self.end, float(end))
        if not is_of_video:
            return
        if packet.pts is None:
            raise Flawed(Flaw.UNTIMED)
        if packet.dts is not None:
            if self.last is not None and packet.dts < self.last:
                raise Flawed(Flaw.JUMPING)
            self.last = packet.dts
        self.stamps.append(packet.pts)
        self.is_key.append(packet.is_keyframe)
        self.is_shown.append(is_shown(packet))
        if len(self.stamps) > FRAMES:
            raise Flawed(Flaw.TOO_LONG)


def read_timeline(file: Readable, max_pixels: int) -> Timeline:
    """The frames of a video. The file is read from its start to its end, once.

    Frames before the first keyframe, which nothing can show, and those that an edit list hides
    are left out. Of frames with one time stamp the first counts.

    Args:
        file: at its start.
        max_pixels: see `opened`.

    Raises:
        Flawed: no video, no frame in it, or no telling when its frames are shown.
        OSError: of the file.
    """
    with opened(file, max_pixels) as (container, stream):
        packets, flaw = _read(container, stream)
        assert stream.time_base
        _check_order(container, stream, np.frombuffer(packets.stamps, np.int64))
        return Timeline(
            *_shown(packets),
            Fraction(stream.time_base),
            stream.codec_context.width,
            stream.codec_context.height,
            flaw or (Flaw.CUT if _is_cut(container, stream, packets) else None),
            round(1000 * packets.end),
        )


def _read(container: InputContainer, stream: VideoStream) -> tuple[_Packets, Flaw | None]:
    import av

    packets, flaw = _Packets(), None
    try:
        for packet in container.demux():
            if packet.size:
                packets.add(packet, packet.stream_index == stream.index)
    except av.FFmpegError:
        flaw = Flaw.DAMAGED
    if not packets.stamps:
        raise Flawed(Flaw.NO_FRAMES)
    return packets, flaw


def _check_order(container: InputContainer, stream: VideoStream, stamps: np.ndarray) -> None:
    """AVI has no stamps, and of H.264 the order of decoding is taken for that of showing."""
    reorders = stream.codec_context.has_b_frames and stream.codec_context.name in ("h264", "hevc")
    if container.format.name == "avi" and reorders and (np.diff(stamps) > 0).all():
        raise Flawed(Flaw.UNTIMED)


def _shown(packets: _Packets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`stamps`, `keys` and `earlier` of a timeline."""
    stamps, first = np.unique(np.frombuffer(packets.stamps, np.int64), return_index=True)
    is_key = np.frombuffer(packets.is_key, bool)[first]
    is_shown = np.frombuffer(packets.is_shown, bool)[first]
    keys = stamps[is_key]
    if not len(keys):
        raise Flawed(Flaw.NO_KEYFRAME)
    latest = np.cumsum(is_key) - 1  # -1 before the first
    chosen = is_shown & (latest >= 0)
    if not chosen.any():
        raise Flawed(Flaw.NO_FRAMES)
    latest = latest[chosen]
    return stamps[chosen], keys[latest], keys[np.maximum(latest - 1, 0)]


def _is_cut(container: InputContainer, stream: VideoStream, packets: _Packets) -> bool:
    """Whether there is less than the header says: demuxers take the end of a file for the end."""
    if stream.frames > len(packets.stamps):
        return True
    if container.duration is None:
        return False
    expected = ((container.start_time or 0) + container.duration) / 1e6
    # the last frame of a slide show may be shown for long
    held = float(np.diff(np.frombuffer(packets.stamps, np.int64)).max(initial=0))
    late = max(LATE_SECONDS, held * float(stream.time_base or 0))
    return expected - packets.end > late
