"""An object of any store as a file that can be read from anywhere, by few requests."""

from __future__ import annotations

from fsspec import AbstractFileSystem

from pipeline.inputs.containers.seekable import Seekable
from pipeline.store import failures, objects, urls

# Bytes of one request: the least where each read lies far behind the last one, the most where one
# follows the other. A gap of so many is read over, for a request costs more.
LEAST, MOST = 4096, 2**20
GAP = 2**16


class Ranged(Seekable):
    """Reads ranges of an object; the next one is larger where reads lie close together.

    A read gives all the bytes asked for, but at the object's end. A server that answers with the
    whole object in place of a range is asked once.
    """

    def __init__(self, fs: AbstractFileSystem, path: str, size: int, max_whole: int = 0) -> None:
        """
        Args:
            fs: of the object.
            path: likewise.
            size: of all of it, in bytes.
            max_whole: an object of up to so many bytes is read as a whole where its server gives
                no ranges; others only if they are small.
        """
        super().__init__(size)
        self.fs, self.path, self.max_whole = fs, path, max_whole
        self.first = 0
        self.block = b""
        self.window = LEAST

    def again(self) -> Ranged:
        """The same object, at its start: what is read of it leaves this one's place."""
        return Ranged(self.fs, self.path, self.size, self.max_whole)

    def read(self, size: int | None = -1) -> bytes:
        """
        Raises:
            OSError: the store gives nothing, however often it is asked.
        """
        end = self.size if size is None or size < 0 else min(self.position + size, self.size)
        pieces = []
        while self.position < end:
            if not self.first <= self.position < self.first + len(self.block):
                self._fill()
            piece = self.block[self.position - self.first : end - self.first]
            if not piece:  # the object is shorter now
                break
            pieces.append(piece)
            self.position += len(piece)
        return b"".join(pieces)

    def _fill(self) -> None:
        skipped = self.position - (self.first + len(self.block))
        is_near = 0 <= skipped <= GAP
        self.window = min(2 * self.window, MOST) if is_near else max(self.window // 4, LEAST)
        span = {"start": self.position, "end": min(self.position + self.window, self.size)}
        try:
            data = bytes(objects.retrying(lambda: self.fs.cat_file(self.path, **span)))
        except OSError as error:
            if not failures.is_unranged(error) or self.size > self.max_whole:
                raise
            data = bytes(objects.retrying(lambda: self.fs.cat_file(self.path)))
        is_whole = len(data) > span["end"] - span["start"]
        self.first, self.block = (0 if is_whole else self.position), data


def open_ranged(
    fs: AbstractFileSystem, path: str, size: int | None = None, max_whole: int = 0
) -> Ranged:
    """An object, whose size in bytes is asked for where it is not known; `max_whole`: of `Ranged`.

    Raises:
        OSError: its store does not say how long it is.
    """
    length = size if size is not None else objects.retrying(lambda: fs.size(path))
    if length is None:
        raise OSError(f"{urls.url_of(fs, path)}: the server does not say how large the file is")
    return Ranged(fs, path, length, max_whole)
