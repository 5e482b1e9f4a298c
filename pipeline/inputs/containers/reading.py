"""The bytes of a member, whatever its container is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from pipeline.errors import Code
from pipeline.inputs import access
from pipeline.inputs.containers import lance_rows, parquet, tars, zips
from pipeline.inputs.containers.members import UNREADABLE, MemberError, unreadable
from pipeline.inputs.containers.streams import Streams
from pipeline.inputs.containers.video import flaws, listing
from pipeline.inputs.containers.video.pool import Videos
from pipeline.reading import Reading
from pipeline.store import objects

STREAMS, VIDEOS = Streams(), Videos()


class Limits(NamedTuple):
    """What is not read, as the fields of these names of `Config` have it."""

    max_object_bytes: int
    max_pixels: int
    fetch_timeout: float


class Spanned(Protocol):
    """A kind of container whose members are ranges of its bytes: a module of this folder.

    `size`: bytes of the image of a place; `span`: the range that `image` wants of its container.
    """

    def size(self, place: list[int]) -> int: ...

    def span(self, place: list[int]) -> tuple[int, int]: ...

    def image(self, place: list[int], data: bytes) -> bytes: ...


SPANNED: dict[str, Spanned] = {"tar": tars, "zip": zips}


def read(
    row: Mapping[str, Any],
    source: str,
    column: str | None,
    limits: Limits,
    trusted: bool,
    reading: Reading,
) -> bytes | str | None:
    """The encoded image of a row of `MEMBER`, or the URI at which it is, or None for no image.

    Args:
        row: of the manifest; its `source_uri` is not null.
        source: URL of the input.
        column: of Parquet or Arrow, with the images; None for the one that is found by itself.
        limits: larger images are not read.
        trusted, reading: see `access.locate`.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be read.
    """
    url, kind, place = row["source_uri"], row["source_kind"], row["source_place"]
    if kind == "parquet":
        row_group, index = place
        return parquet.image(url, row_group, index, column, reading)
    if kind == lance_rows.KIND:
        version, index = place
        return lance_rows.image(url, version, index, column, reading)
    check(kind, place, limits.max_object_bytes)
    fs, path = access.locate(url, source, trusted, reading=reading)
    if kind == listing.KIND:
        return VIDEOS.image(fs, path, place, *limits)
    if kind == "tgz":
        return STREAMS.image(fs, path, place)
    start, end = SPANNED[kind].span(place)
    data = objects.retrying(lambda: fs.cat_file(path, start=start, end=end), attempts=3)
    # some servers answer with all of the object
    return SPANNED[kind].image(place, data[start:end] if len(data) > end - start else data)


def check(kind: str, place: list[int], limit: int) -> None:
    """
    Raises:
        MemberError: what the listing found out of a member says that it is not to be read.
    """
    if kind == UNREADABLE:
        raise unreadable(place)
    if kind == listing.FLAWED:
        flaw, milliseconds = place
        raise MemberError(*flaws.reason(flaw, milliseconds))
    if kind == listing.KIND:  # the video is not read as a whole
        return
    module = SPANNED.get(kind, tars)
    if module.size(place) > limit:
        message = f"{module.size(place)} bytes; max_object_bytes is {limit}"
        raise MemberError(Code.OBJECT_TOO_LARGE, message)
