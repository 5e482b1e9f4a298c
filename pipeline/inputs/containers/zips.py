"""Zip archives: a directory at the end says where each file lies.

The directory is read entry by entry, in place of by `zipfile`, which holds all of it: a million
files are more than a gigabyte there. PKWARE's APPNOTE.TXT describes the format.

`source_place` is [offset of the local header, end of what may belong to the file, its bytes, its
compressed bytes, method, CRC-32, flags].
"""

from __future__ import annotations

import io
import lzma
import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from pipeline.errors import Code
from pipeline.inputs.containers.members import Broken, Entry, Lack, MemberError
from pipeline.inputs.containers.ranged import Ranged
from pipeline.inputs.entries import digest

# signature, disks, entries, bytes and offset of the directory, bytes of the comment
END = struct.Struct("<4s4H2LH")
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR_BYTES = 20
# signature, versions, flags, method, time, date, CRC, sizes, lengths of name, extra field and
# comment, disk, attributes, offset of the local header
ENTRY = struct.Struct("<4s6H3L5H2L")
LOCAL = struct.Struct("<4s5H3L2H")
COMMENT_BYTES = EXTRA_BYTES = 2**16
# STREAMED: the local header has no CRC and no sizes
ENCRYPTED, STREAMED, UTF_8 = 0x1, 0x8, 0x800
UNSAID = 0xFFFFFFFF  # a value that stands in the extra field of Zip64
ZIP_64, UNICODE_NAME = 0x1, 0x7075  # extra fields
UNIX = 3  # the system on which an entry was made
MOST = 2**62
DAMAGED = (zipfile.BadZipFile, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)
# of what is decompressed at once: bzip2 makes 20,000 times as much of it
PIECE_BYTES = 4096


class _File(NamedTuple):
    """An entry of the directory."""

    name: str
    place: list[int]
    mode: int


def entries(file: Ranged, kind: str, version: int | None, passed: Counter[str]) -> Iterator[Entry]:
    """The files of an archive, in its directory's order; one of them is in memory.

    Args:
        file: the archive.
        kind: `source_kind` of the entries.
        version: of the archive; entries have their own, by CRC and size.
        passed: counts links.

    Raises:
        Broken: there is no directory, or the rest of it cannot be read.
        OSError: of the store.
    """
    first, last, shift = _directory(file)
    file.seek(first)
    members = file.again()
    before: _File | None = None
    while (offset := file.tell()) < last:
        found = _read_entry(file, offset, first, shift)
        if before:
            yield from _entry(members, kind, before, found.place[0], passed)
        before = found
    if before:
        yield from _entry(members, kind, before, first, passed)


def _directory(file: Ranged) -> tuple[int, int, int]:
    """Its first and last byte, and how many bytes stand before the archive."""
    size = file.seek(0, io.SEEK_END)
    start = max(size - END.size - COMMENT_BYTES, 0)
    file.seek(start)
    tail = file.read(size - start)
    at = _end(tail)
    if at < 0:
        file.seek(0)
        raise Broken(Lack.CUT if file.read(4) == b"PK\3\4" else Lack.NOT_ONE, size)
    length, offset = END.unpack_from(tail, at)[5:7]
    end = start + at
    if end >= LOCATOR_BYTES + END_64.size:
        file.seek(end - LOCATOR_BYTES - END_64.size)
        wide = file.read(END_64.size + 4)
        if wide[:4] == b"PK\6\6" and wide[-4:] == b"PK\6\7":
            length, offset = END_64.unpack_from(wide)[8:10]
            end -= LOCATOR_BYTES + END_64.size
    first = end - length
    if first < 0 or first < offset:
        raise Broken(Lack.DAMAGED, max(first, 0))
    return first, end, first - offset


def _end(tail: bytes) -> int:
    """Where the last record of an archive is in its last bytes; -1 for nowhere.

    The one whose comment ends with the archive, or else the last one: a comment may hold another.
    """
    found = [found.start() for found in re.finditer(b"PK\5\6", tail[: 4 - END.size])]
    whole = (at for at in found if at + END.size + END.unpack_from(tail, at)[7] == len(tail))
    return next(whole, found[-1] if found else -1)


def _read_entry(file: Ranged, offset: int, first: int, shift: int) -> _File:
    head = file.read(ENTRY.size)
    if len(head) < ENTRY.size or head[:4] != b"PK\1\2":
        raise Broken(Lack.DAMAGED, offset)
    _, made, _, flags, method, _, _, crc, *numbers = ENTRY.unpack(head)
    packed, size, named, extra, comment, _, _, attributes, local = numbers
    rest = file.read(named + extra + comment)
    if len(rest) < named + extra + comment:
        raise Broken(Lack.DAMAGED, offset)
    wide = _wide(rest[named : named + extra])
    size, packed, local = (
        wide.pop(0) if value == UNSAID and wide else value for value in (size, packed, local)
    )
    local = min(local + shift, first)
    end = min(local + LOCAL.size + named + EXTRA_BYTES + packed, first)
    name = name_of(rest[:named], rest[named : named + extra], flags)
    place = [local, end, size, packed, method, crc, flags]
    return _File(name, place, attributes >> 16 if made >> 8 == UNIX else 0)


def name_of(written: bytes, extra: bytes, flags: int) -> str:
    """The name of an entry, as text.

    Linux's `zip` and macOS write UTF-8 without its flag, WinRAR in an extra field. That counts only
    with the CRC-32 of the name that it was made for.

    Args:
        written: the name as it is in the central directory.
        extra: the entry's extra fields there.
        flags: its general purpose flags.
    """
    field = _field(extra, UNICODE_NAME)
    if field.startswith(struct.pack("<BL", 1, zlib.crc32(written))):
        written = field[5:]
    try:
        return written.decode()
    except UnicodeDecodeError:
        return written.decode("utf-8" if flags & UTF_8 else "cp437", "surrogateescape")


def _wide(extra: bytes) -> list[int]:
    """The values of the field of Zip64 among an entry's extra ones, as many as columns hold."""
    field = _field(extra, ZIP_64)
    whole = field[: len(field) // 8 * 8]
    return [min(value, MOST) for (value,) in struct.iter_unpack("<Q", whole)]


def _field(extra: bytes, wanted: int) -> bytes:
    """The content of one of an entry's extra fields; empty if there is none."""
    while len(extra) >= 4:
        mark, length = struct.unpack_from("<2H", extra)
        if mark == wanted:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""


def _entry(
    file: Ranged, kind: str, found: _File, following: int, passed: Counter[str]
) -> Iterator[Entry]:
    """The entry, if it is a file; its bytes end before the header that follows."""
    name, place, mode = found
    local, _, size, packed, _, crc, flags = place
    if stat.S_ISLNK(mode):
        passed["/link"] += 1
    elif not name.endswith("/"):
        if following >= local + LOCAL.size + packed:
            place[1] = min(place[1], following)
        version = digest(struct.pack("<LQ", crc, size))
        start = partial(_start, file, place)
        yield Entry(name, size, version, kind, place, local, start)


def _start(file: Ranged, place: list[int], length: int) -> bytes | None:
    file.seek(place[0])
    most = LOCAL.size + 2 * EXTRA_BYTES + max(length, PIECE_BYTES)
    data = file.read(min(place[1] - place[0], most))
    try:
        if place[6] & ENCRYPTED:
            return None
        with _opened(place, data) as member:
            return member.read(length)
    except Exception:  # hostile ones raise about anything; its row will say what is wrong
        return None


def span(place: list[int]) -> tuple[int, int]:
    """Of the bytes that `image` wants."""
    return place[0], place[1]


def size(place: list[int]) -> int:
    """Bytes of the image, or of what it is compressed to if that is more."""
    return max(place[2], place[3])


def image(place: list[int], data: bytes) -> bytes:
    """The member of a place.

    Args:
        place: of it.
        data: of its span.

    Raises:
        MemberError: something else is there, or it is encrypted, damaged, of an unknown method.
    """
    if place[6] & ENCRYPTED:
        raise MemberError(Code.ENCRYPTED, "the member is encrypted; decrypt the archive")
    pieces = io.BytesIO()
    with _opened(place, data) as member:
        try:
            while piece := member.read(PIECE_BYTES):
                pieces.write(piece)
        except DAMAGED as error:
            raise MemberError(Code.MEMBER_UNREADABLE, f"damaged: {error}") from error
    if pieces.tell() != place[2]:
        found = f"{pieces.tell():,} of {place[2]:,} bytes"
        raise MemberError(Code.MEMBER_UNREADABLE, f"damaged: it has {found}")
    return pieces.getvalue()


def _opened(place: list[int], data: bytes) -> zipfile.ZipExtFile:
    """The member's content, which is decompressed, and checked by its CRC, as it is read."""
    _, _, size, packed, method, crc, _ = place
    if len(data) < LOCAL.size or data[:4] != b"PK\3\4":
        raise MemberError(Code.CONTAINER_CHANGED, "the archive has changed: no member is here now")
    _, _, flags, _, _, _, written, _, _, named, extra = LOCAL.unpack_from(data)
    if not flags & STREAMED and written != crc:
        raise MemberError(
            Code.CONTAINER_CHANGED, "the archive has changed: another member is here now"
        )
    info = zipfile.ZipInfo("member")
    info.compress_type, info.CRC, info.compress_size, info.file_size = method, crc, packed, size
    first = LOCAL.size + named + extra
    try:
        return zipfile.ZipExtFile(io.BytesIO(data[first : first + packed]), "r", info)
    except NotImplementedError as error:  # of the method
        raise MemberError(Code.MEMBER_UNREADABLE, str(error)) from error
