"""What a member of a container is to a manifest: its URI, its place, and why it has none."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.errors import Code
from pipeline.inputs.references import shortened
from pipeline.store import failures
from pipeline.store.failures import UriError

# `source_kind` of what is known to be there and cannot be read: `source_place` is a `Lack` and the
# byte at which it was found
UNREADABLE = "unreadable"
# what would make two members' URIs one, or hide a part of it; surrogates stand for bytes that are
# no UTF-8
ESCAPED = re.compile(r"[%#?\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|\A@")


class MemberError(UriError):
    """A member that is there and cannot be read, whatever is tried; with its code."""


class Lack(IntEnum):
    """Why something in a container is not readable. Manifests have the numbers, so they stay."""

    NOT_ONE = 0
    CUT = 1
    DAMAGED = 2
    SPARSE = 3
    UNENDED = 4
    FORBIDDEN = 5
    NOT_FOUND = 6
    ARCHIVED = 7
    UNREAD = 8
    JOINED = 9


UNLISTED = "its content could not be listed; once it can be read, --refresh lists it"
LACKS = {
    Lack.NOT_ONE: (Code.CONTAINER_DAMAGED, "it is not the kind of archive that its name says"),
    Lack.CUT: (Code.CONTAINER_DAMAGED, "the archive is cut off here"),
    Lack.DAMAGED: (Code.CONTAINER_DAMAGED, "the archive is damaged here"),
    Lack.SPARSE: (Code.MEMBER_UNREADABLE, "a sparse file, which is not supported"),
    Lack.UNENDED: (Code.CONTAINER_DAMAGED, "the archive has no end mark, so it may be cut off"),
    Lack.JOINED: (
        Code.CONTAINER_DAMAGED,
        "another archive follows the end of this one and is not read; store them as separate files",
    ),
    Lack.FORBIDDEN: (Code.FORBIDDEN, UNLISTED),
    Lack.NOT_FOUND: (Code.NOT_FOUND, UNLISTED),
    Lack.ARCHIVED: (Code.ARCHIVED, UNLISTED),
    Lack.UNREAD: (Code.READ_FAILED, UNLISTED),
}


class Broken(Exception):
    """An archive cannot be listed any further."""

    def __init__(self, lack: Lack, offset: int) -> None:
        super().__init__(lack, offset)
        self.lack, self.offset = lack, offset


class Entry(NamedTuple):
    """A file in an archive, as its headers have it.

    Attributes:
        name: as written there; bytes that are no UTF-8 are surrogates.
        size: bytes of its content.
        version: differs where the content does; None if nothing tells.
        kind: `source_kind` of the manifest.
        place: `source_place` of the manifest.
        offset: of its header; no other entry of the archive has the same.
        start: gives so many of its first bytes, until the next entry is asked for; None where they
            cannot be had.
    """

    name: str
    size: int
    version: int | None
    kind: str
    place: list[int]
    offset: int
    start: Callable[[int], bytes | None]


def unreadable(place: list[int]) -> MemberError:
    """The error of a row of `UNREADABLE`."""
    code, message = LACKS[Lack(place[0])]
    where = "" if message == UNLISTED else f" (byte {place[1]:,})"
    return MemberError(code, message + where)


def unlisted(error: Exception, count: int = 0) -> list[int]:
    """The place of `UNREADABLE` for a container whose listing failed.

    Args:
        error: why.
        count: of members that were listed before.

    Raises:
        Exception: the error itself, if it can pass or comes after some members.
    """
    code, can_pass = failures.classify(error)
    if can_pass or count:
        raise error
    lacks = {known: lack for lack, (known, message) in LACKS.items() if message == UNLISTED}
    return [lacks.get(code, Lack.UNREAD), 0]


def columns(table: str, kind: str, first: int, places: list[list[int]]) -> list[Any]:
    """Those of `LISTED` and `MEMBER` for images in rows of a table, from a number on."""
    rows = len(places)
    # no name inside a table is sure to be unique; the row's number is
    uris = [f"{table}#{row}" for row in range(first, first + rows)]
    unknown = [pa.nulls(rows, pa.int64())] * 2
    return [uris, *unknown, [table] * rows, [kind] * rows, places]


def uri(container: str, name: str, offset: int | None = None) -> str:
    """The URI of a member; equal ones are of one member.

    Args:
        container: URL of it.
        name: of the member.
        offset: tells it from another of the same name.

    >>> uri("s3://b/0.tar", "cam 1/50%.jpg"), uri("s3://b/0.tar", "a.jpg", 1024)
    ('s3://b/0.tar#cam 1/50%25.jpg', 's3://b/0.tar#@1024/a.jpg')
    """
    mark = "" if offset is None else f"@{offset}/"
    return shortened(f"{container}#{mark}{ESCAPED.sub(_escape, name)}")


def _escape(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode(errors="surrogateescape"))
