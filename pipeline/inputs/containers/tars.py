"""Tar archives: a chain of headers, each before its file.

`source_place` is [offset of the data, its bytes, digest of the header block before it]; of a
compressed one offsets are those in the stream that is decompressed.
"""

from __future__ import annotations

import contextlib
import gzip
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from pipeline.errors import Code
from pipeline.inputs.containers.members import UNREADABLE, Broken, Entry, Lack, MemberError
from pipeline.inputs.entries import digest

BLOCK = tarfile.BLOCKSIZE
# of one header with its long name or its PAX records
HEADER_BYTES = 2**20
MOST = 2**62
# of a stream that is decompressed
TORN = (EOFError, zlib.error, gzip.BadGzipFile)


class _Header(tarfile.TarInfo):
    """With its block as it stands in the archive."""

    block: bytes

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        assert isinstance(header, _Header)
        header.block = bytes(buf)
        return header


class _Bounded:
    """A file that refuses reads whose length only a hostile header can ask for."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self.file.read(size)


def entries(
    file: IO[bytes], kind: str, version: int | None, passed: Counter[str]
) -> Iterator[Entry]:
    """The regular files of an archive, in its order; one of them is in memory.

    Args:
        file: the archive, decompressed; sought forwards alone.
        kind: `source_kind` of the entries.
        version: of the archive; of an entry where its header has no time.
        passed: counts links and devices.

    Raises:
        Broken: the rest cannot be read.
        OSError: of the store.
    """
    bounded: Any = _Bounded(file)
    tar: tarfile.TarFile | None = None
    last = 0
    while True:
        try:
            if tar is None:
                tar = tarfile.TarFile(fileobj=bounded, tarinfo=_Header, encoding="utf-8")
            header = tar.next()
        except Exception as error:  # hostile headers raise about anything
            if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
                raise
            raise _broken(error, tar, last) from error
        if header is None:
            _check_end(bounded, tar.offset)
            return
        if header.size < 0 or not last < tar.offset < MOST:  # goes back, or nowhere
            raise Broken(Lack.DAMAGED, last)
        vars(tar)["members"].clear()  # it would keep all of them
        last = tar.offset
        assert isinstance(header, _Header)
        if header.isreg():
            yield _entry(header, bounded, kind, version)
        elif not header.isdir():
            passed["/link" if header.islnk() or header.issym() else "/special file"] += 1


def _entry(header: _Header, file: Any, kind: str, version: int | None) -> Entry:
    mark = digest(header.block)
    place = [header.offset_data, header.size, mark]
    if header.issparse():
        kind, place = UNREADABLE, [Lack.SPARSE, header.offset]

    def start(size: int) -> bytes:
        file.seek(header.offset_data)
        return bytes(file.read(min(size, header.size)))

    told: int | None = mark
    if not header.mtime:  # as it is written where archives shall be the same
        told = None if version is None else digest(b"%d %d" % (version, mark))
    return Entry(header.name, header.size, told, kind, place, header.offset, start)


def _broken(error: Exception, tar: tarfile.TarFile | None, last: int) -> Broken:
    if tar is None:
        return Broken(Lack.NOT_ONE, 0)
    is_cut = isinstance(error, EOFError) or "unexpected end" in str(error)
    return Broken(Lack.CUT if is_cut else Lack.DAMAGED, last)


def _check_end(file: Any, offset: int) -> None:
    """tarfile takes whatever is no header for the end, and looks no further."""
    try:
        file.seek(offset)
        block = file.read(BLOCK)
    except TORN as error:
        raise Broken(Lack.CUT if isinstance(error, EOFError) else Lack.DAMAGED, offset) from error
    if not block:
        raise Broken(Lack.UNENDED, offset)
    if len(block) < BLOCK:
        raise Broken(Lack.CUT, offset)
    if any(block):
        raise Broken(Lack.DAMAGED, offset)
    # to the end of a record of any archive, and a header behind it; what else stands there is junk
    with contextlib.suppress(*TORN, tarfile.HeaderError):
        behind = file.read(tarfile.RECORDSIZE + BLOCK)
        start = len(behind) - len(behind.lstrip(b"\0"))
        _Header.frombuf(behind[start : start + BLOCK], "utf-8", "surrogateescape")
        raise Broken(Lack.JOINED, offset + BLOCK + start)


def span(place: list[int]) -> tuple[int, int]:
    """Of the bytes that `image` wants."""
    return place[0] - BLOCK, place[0] + place[1]


def size(place: list[int]) -> int:
    """Bytes of the image."""
    return place[1]


def image(place: list[int], data: bytes) -> bytes:
    """The member of a place.

    Args:
        place: of it.
        data: of its span.

    Raises:
        MemberError: something else is there, or not all of it.
    """
    if digest(data[:BLOCK]) != place[2]:
        raise MemberError(
            Code.CONTAINER_CHANGED, "the archive has changed: another member is here now"
        )
    if len(data) < BLOCK + place[1]:
        found = f"{len(data) - BLOCK:,} of its {place[1]:,} bytes are there"
        raise MemberError(Code.CONTAINER_DAMAGED, f"the archive is cut off: {found}")
    return data[BLOCK : BLOCK + place[1]]
