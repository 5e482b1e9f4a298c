"""What files have in common of which the bytes come from elsewhere."""

from __future__ import annotations

import io


class Seekable(io.RawIOBase):
    """A place in so many bytes; `read` is left to who knows where they are.

    Attributes:
        size: of all of it, in bytes.
        position: of the next read.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = max(base + offset, 0)
        return self.position
