"""Pixels of the frames of a video, decoded in order from the keyframes that they need."""

from __future__ import annotations

import heapq
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.errors import Code
from pipeline.inputs.containers.members import MemberError
from pipeline.inputs.containers.video.flaws import Flawed, reason
from pipeline.inputs.containers.video.opening import Readable, is_shown, opened
from pipeline.inputs.containers.video.upright import upright

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream

# of `av.video.frame.PictureType`
BIDIRECTIONAL = 3
# before all stamps, in any time base
BEGINNING = -(2**40)


class Place(NamedTuple):
    """Where a frame is found, all in units of the video stream's time base.

    Attributes:
        stamp: of the frame.
        key: of the keyframe from which it can be decoded.
        earlier: of the keyframe before that; the same for the first one.
    """

    stamp: int
    key: int
    earlier: int

    def follows(self, last: Place | None) -> bool:
        """Whether it comes next, or soon: with no keyframe to skip on the way."""
        if last is None or self.stamp <= last.stamp:
            return False
        return last.key in (self.key, self.earlier)


class Frames:
    """A video that is open, decoded as far as the frame that was asked for last."""

    def __init__(self, file: Readable, max_pixels: int, seconds: float) -> None:
        """
        Args:
            file: the video, seekable.
            max_pixels: larger frames are not decoded.
            seconds: that one frame may take.

        Raises:
            MemberError: it is no video any more.
            OSError: of the file.
        """
        self.max_pixels, self.seconds = max_pixels, seconds
        self.stack = ExitStack()
        try:
            self.container, self.stream = self.stack.enter_context(opened(file, max_pixels))
        except Flawed as error:
            raise MemberError(*reason(error.flaw, 0)) from error
        self.last: Place | None = None
        self.decoding: _Decoding | None = None

    def close(self) -> None:
        self.stack.close()

    def image(self, place: Place) -> np.ndarray:
        """The frame of a place: [height, width, 3] RGB uint8, upright.

        Colours are those of FFmpeg's `-pix_fmt rgb24`, which takes a video that does not say
        otherwise for BT.601.

        Raises:
            MemberError: it is not there, damaged or too large.
            OSError: of the file.
        """
        size = self.stream.codec_context
        if size.width * size.height > self.max_pixels:
            message = f"{size.width}x{size.height} is over max_pixels, which is {self.max_pixels}"
            raise MemberError(Code.MEMBER_UNREADABLE, message)
        leads = place.follows(self.last) and self.decoding is not None and not self.decoding.ended
        self.last = place
        if not leads:
            self.decoding = _Decoding(self, place.key)
        try:
            return self._pixels(place)
        except MemberError:
            if leads or place.earlier == place.key:
                raise
        # where intra refresh stands for keyframes, pictures are whole one round of it later
        self.decoding = _Decoding(self, place.earlier)
        return self._pixels(place)

    def _pixels(self, place: Place) -> np.ndarray:
        assert self.decoding
        frame = self.decoding.frame(place.stamp)
        rgb = frame.reformat(format="rgb24", interpolation="BICUBIC", threads=1).to_ndarray()
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        return upright(rgb, bytes(matrix) if matrix else b"")


class _Decoding:
    """The frames from a keyframe on, and which of them cannot be trusted.

    A decoder goes on after damage, with wrong pictures until the next keyframe.
    """

    def __init__(self, frames: Frames, start: int) -> None:
        self.frames, self.start = frames, start
        self.keys: list[int] = []  # stamps of the keyframes so far
        self.bad: set[int] = set()  # of those, after which something is damaged
        self.due: list[int] = []  # stamps of packets that have given no picture yet, as a heap
        self.wanted = start
        self.ended = False
        self.settled = self._settled()
        self.next: tuple[int, VideoFrame] | None = None

    def frame(self, stamp: int) -> VideoFrame:
        """The frame of a stamp; stamps ascend from call to call.

        Raises:
            MemberError: there is none, or it cannot be trusted.
        """
        self.wanted = stamp
        until = time.monotonic() + self.frames.seconds
        while not self.ended and (self.next is None or self.next[0] < stamp):
            self.next = next(self.settled, None)
            self.ended = self.next is None
            if time.monotonic() > until:
                self.ended = True
                message = f"no picture after fetch_timeout, which is {self.frames.seconds:g} s"
                raise MemberError(Code.TIMEOUT, message)
        if self._key(stamp) in self.bad:
            message = "the frame, or one that it is decoded from, is damaged"
            raise MemberError(Code.MEMBER_UNREADABLE, message)
        if self.next is None or self.next[0] != stamp:
            raise MemberError(
                Code.MEMBER_UNREADABLE, "the decoder found no frame with this time stamp"
            )
        return self.next[1]

    def _key(self, stamp: int) -> int:
        """The keyframe of a frame."""
        place = bisect_right(self.keys, stamp)
        return self.keys[place - 1] if place else self.start

    def _settled(self) -> Iterator[tuple[int, VideoFrame]]:
        """In the order in which they are shown, once it is known what is damaged before them."""
        held: list[tuple[int, VideoFrame]] = []
        for stamp, frame in self._decoded():
            lost = self._overdue(stamp) + [stamp] * frame.is_corrupt
            if lost:
                self.bad.update(map(self._key, [*lost, *(before for before, _ in held)]))
            held.append((stamp, frame))
            # those between two others may be made of the one that is shown later
            if frame.pict_type != BIDIRECTIONAL:
                yield from held
                held.clear()
        yield from held

    def _overdue(self, stamp: int) -> list[int]:
        """Stamps before this one of which no picture has come, though others may be made of it."""
        overdue = []
        while self.due and self.due[0] <= stamp:
            overdue.append(heapq.heappop(self.due))
        return [due for due in overdue if due < stamp]

    def _decoded(self) -> Iterator[tuple[int, VideoFrame]]:
        import av

        for packet in self._packets():
            if packet.is_keyframe and packet.pts is not None:
                # a decoder hands on frames late, but not a second keyframe later
                if self.keys and self.keys[-1] > self.wanted:
                    return
                self.keys.append(packet.pts)
            if packet.pts is not None and packet.pts >= self.start and is_shown(packet):
                heapq.heappush(self.due, packet.pts)
            try:
                frames = packet.decode()
            except av.FFmpegError:
                # frames before its keyframe may need it, too
                self.bad.update(self.keys[-2:])
                continue
            yield from ((frame.pts, frame) for frame in frames if frame.pts is not None)

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """From the keyframe to the end, after which comes an empty one for the decoder."""
        container, stream = self.frames.container, self.frames.stream
        for sought in (self.start, stream.start_time or 0, BEGINNING):
            container.seek(sought, stream=stream)
            found = False
            for packet in container.demux(stream):
                found = found or (packet.is_keyframe and packet.pts == self.start)
                if found:
                    yield packet
                elif packet.dts is None or packet.dts > self.start:
                    break  # without an index a search may end behind it
            if found:
                return
        message = "the video has changed since it was listed; --refresh lists it again"
        raise MemberError(Code.CONTAINER_CHANGED, message)
