"""The process in which libav reads videos, for one that it must not take along when it crashes."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from PIL import Image

from pipeline.errors import Code
from pipeline.inputs.containers.members import MemberError
from pipeline.inputs.containers.seekable import Seekable
from pipeline.inputs.containers.video.flaws import Flaw, Flawed
from pipeline.inputs.containers.video.frames import Frames, Place
from pipeline.inputs.containers.video.timeline import Timeline, read_timeline


class Wanted(NamedTuple):
    """Bytes of the video that the other side shall send."""

    start: int
    size: int


class _Video(Seekable):
    """A video of which the other side has the bytes.

    Between two reads a decoder may take `seconds`; the alarm ends it even where it holds Python up.
    """

    def __init__(self, connection: Connection[Any, Any], size: int, seconds: float) -> None:
        super().__init__(size)
        self.connection, self.seconds = connection, seconds

    def read(self, size: int | None = -1) -> bytes:
        rest = max(self.size - self.position, 0)
        size = rest if size is None or size < 0 else min(size, rest)
        if not size:
            return b""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.connection.send(Wanted(self.position, size))
        data: bytes = self.connection.recv()
        self.arm()
        self.position += len(data)
        return data

    def arm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self.seconds)


class Serving:
    """What can be asked: a method for each request."""

    def __init__(self, connection: Connection[Any, Any], shared: int) -> None:
        self.connection, self.shared = connection, shared
        self.video: _Video | None = None
        self.frames: Frames | None = None

    def timeline(self, size: int, max_pixels: int, seconds: float) -> Timeline:
        """See `read_timeline`; `size`: bytes of the video, `seconds`: see `_Video`."""
        video = _Video(self.connection, size, seconds)
        video.arm()
        try:
            return read_timeline(video, max_pixels)
        except Flawed:
            raise
        except Exception as error:  # PyAV raises about anything at hostile bytes
            raise Flawed(Flaw.CRASHES) from error

    def open(self, size: int, max_pixels: int, limit: float, seconds: float) -> None:
        """Have a video open, in place of the one before; `limit`: of `Frames`."""
        if self.frames:
            self.frames.close()
        self.frames, self.video = None, _Video(self.connection, size, seconds)
        self.video.arm()
        self.frames = Frames(self.video, max_pixels, limit)

    def image(self, place: Place) -> int:
        """A frame of the video that is open, as a BMP in the shared memory: so many bytes.

        See `Frames.image`. A BMP loses nothing, and no time on compression.
        """
        assert self.video and self.frames
        self.video.arm()
        file = io.BytesIO()
        Image.fromarray(self.frames.image(place)).save(file, "BMP")
        return os.pwrite(self.shared, file.getbuffer(), 0)

    def answer(self, name: str, *arguments: Any) -> Any:
        """What a request gives, or the `Flawed` or `MemberError` that it raises."""
        try:
            return getattr(self, name)(*arguments)
        except (Flawed, MemberError) as error:
            return error
        except Exception as error:  # as above
            return MemberError(Code.MEMBER_UNREADABLE, f"the decoder failed: {error}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    """Serve a connection until its other end is closed.

    The arguments are its file descriptor, and that of the shared memory.
    """
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    serving = Serving(connection, int(sys.argv[2]))
    # who started this process may have it ignored or blocked
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    with contextlib.suppress(EOFError, OSError):
        connection.send(None)
        while True:
            connection.send(serving.answer(*connection.recv()))
    os._exit(0)  # nothing is left to be tidied up
