"""Frames as encoded images, from videos that are kept open where they were left."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, field

import numpy as np
from fsspec import AbstractFileSystem
from PIL import Image

from pipeline.inputs.containers.members import MemberError
from pipeline.inputs.containers.ranged import open_ranged
from pipeline.inputs.containers.video.frames import Frames, Place

# Decoding at once, and idle at once: a decoder holds up to 16 pictures, 50 MB of 1920x1080.
OPEN = 4


@dataclass
class Videos:
    """Of a process. Thread-safe: an open video serves one read at a time."""

    idle: list[tuple[AbstractFileSystem, str, Frames]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(OPEN))

    def image(
        self,
        fs: AbstractFileSystem,
        path: str,
        place: list[int],
        max_pixels: int,
        seconds: float,
    ) -> bytes:
        """The frame of a place as a BMP: without loss, and without time lost on compression.

        Args:
            fs: of the video.
            path: likewise.
            place: see `Place`.
            max_pixels, seconds: see `Frames`.

        Raises:
            OSError: it cannot be read; `MemberError` where no other try can help.
        """
        with self.slots:
            pixels = self._pixels(fs, path, Place(*place), max_pixels, seconds)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "BMP")
        return file.getvalue()

    def _pixels(
        self, fs: AbstractFileSystem, path: str, place: Place, max_pixels: int, seconds: float
    ) -> np.ndarray:
        frames = self._take(fs, path, place, max_pixels, seconds)
        try:
            pixels = frames.image(place)
        except MemberError:
            self._keep(fs, path, frames)
            raise
        except BaseException:  # who knows where it stands
            frames.close()
            raise
        self._keep(fs, path, frames)
        return pixels

    def _take(
        self, fs: AbstractFileSystem, path: str, place: Place, max_pixels: int, seconds: float
    ) -> Frames:
        """One that comes to the frame soon, or else any of this video, or a new one."""
        with self.lock:
            open_here = [held for held in self.idle if held[:2] == (fs, path)]
            if open_here:
                chosen = max(open_here, key=lambda held: held[2].leads_to(place))
                self.idle.remove(chosen)
                return chosen[2]
        return Frames(open_ranged(fs, path), max_pixels, seconds)

    def _keep(self, fs: AbstractFileSystem, path: str, frames: Frames) -> None:
        with self.lock:
            self.idle.append((fs, path, frames))
            dropped = self.idle[:-OPEN]
            del self.idle[:-OPEN]
        for *_, old in dropped:
            old.close()
