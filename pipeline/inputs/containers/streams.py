"""Compressed archives, which can only be read from their start: kept open where they were left."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import IO

from fsspec import AbstractFileSystem

from pipeline.errors import Code
from pipeline.inputs.containers import tars
from pipeline.inputs.containers.archives import open_container
from pipeline.inputs.containers.members import MemberError

# open at once; each holds two blocks
STREAMS = 8


@dataclass
class Streams:
    """Of the archives that a process reads. Thread-safe: a stream serves one read at a time."""

    idle: list[tuple[AbstractFileSystem, str, IO[bytes]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def image(self, fs: AbstractFileSystem, path: str, place: list[int]) -> bytes:
        """The member of a place, as `tars` describes it.

        Raises:
            OSError: it cannot be read; `MemberError` where no other try can help.
        """
        start, end = tars.span(place)
        file = self._take(fs, path, start)
        try:
            file.seek(start)
            data = file.read(end - start)
        except tars.TORN as error:
            message = f"the archive is cut off or damaged before this: {error}"
            raise MemberError(Code.CONTAINER_DAMAGED, message) from error
        with self.lock:
            self.idle = [*self.idle, (fs, path, file)][-STREAMS:]
        return tars.image(place, data)

    def _take(self, fs: AbstractFileSystem, path: str, start: int) -> IO[bytes]:
        """The stream that has come nearest to a place, or else a new one."""
        with self.lock:
            nearest = None
            for held in self.idle:
                is_here = held[:2] == (fs, path) and held[2].tell() <= start
                if is_here and (nearest is None or held[2].tell() > nearest[2].tell()):
                    nearest = held
            if nearest:
                self.idle.remove(nearest)
                return nearest[2]
        file: IO[bytes] = open_container(fs, path, None, "tgz")
        return file
