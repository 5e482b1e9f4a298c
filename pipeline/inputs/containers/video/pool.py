"""Frames as encoded images, from videos that are kept open where they were left."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from fsspec import AbstractFileSystem

from pipeline.config import VIDEO_HANGS
from pipeline.errors import Code
from pipeline.inputs.containers.members import MemberError
from pipeline.inputs.containers.ranged import Ranged, open_ranged
from pipeline.inputs.containers.video.frames import Place
from pipeline.inputs.containers.video.process import DEATHS, Died, Process

# Decoding at once, and idle at once: a decoder holds up to 16 pictures, 50 MB of 1920x1080.
OPEN = 4


@dataclass
class _Open:
    """A process, and the video that it has open."""

    process: Process
    file: Ranged | None = None
    last: Place | None = None

    def has(self, fs: AbstractFileSystem, path: str) -> bool:
        return self.file is not None and (self.file.fs, self.file.path) == (fs, path)


@dataclass
class Videos:
    """Of a process. Thread-safe: an open video serves one read at a time."""

    idle: list[_Open] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(OPEN))

    def image(
        self,
        fs: AbstractFileSystem,
        path: str,
        place: list[int],
        max_whole: int,
        max_pixels: int,
        seconds: float,
    ) -> bytes:
        """The frame of a place as a BMP.

        Args:
            fs: of the video.
            path: likewise.
            place: see `Place`.
            max_whole: see `Ranged`.
            max_pixels, seconds: see `Frames`.

        Raises:
            OSError: it cannot be read; `MemberError` where no other try can help.
        """
        frame = Place(*place)
        with self.slots:
            for _ in range(DEATHS):
                video = self._take(fs, path, frame)
                try:
                    if video.file is None:
                        file = open_ranged(fs, path, max_whole=max_whole)
                        limits = max_pixels, seconds, VIDEO_HANGS * seconds
                        video.process.ask(file, "open", file.size, *limits)
                        video.file = file
                    video.last = frame
                    return video.process.image(video.file, frame)
                except Died as error:
                    if error.hangs:
                        message = f"no picture after {VIDEO_HANGS:g} times fetch_timeout"
                        raise MemberError(Code.TIMEOUT, message) from error
                finally:
                    if not video.process.ended:
                        self._keep(video)
        raise MemberError(Code.MEMBER_UNREADABLE, "the decoder crashed on it")

    def close(self) -> None:
        """End the decoders that are idle."""
        with self.lock:
            while self.idle:
                self.idle.pop().process.close()

    def _take(self, fs: AbstractFileSystem, path: str, place: Place) -> _Open:
        """One that comes to the frame soon, or else any of this video, or one without a video."""
        with self.lock:
            here = [video for video in self.idle if video.has(fs, path)]
            if here:
                chosen = max(here, key=lambda video: place.follows(video.last))
                self.idle.remove(chosen)
                return chosen
            oldest = self.idle.pop(0) if len(self.idle) == OPEN else None
        return _Open(oldest.process if oldest else Process())

    def _keep(self, video: _Open) -> None:
        with self.lock:
            self.idle.append(video)
            dropped = self.idle[:-OPEN]
            del self.idle[:-OPEN]
        for old in dropped:
            old.process.close()
