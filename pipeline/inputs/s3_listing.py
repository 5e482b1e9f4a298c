"""The objects below an S3 prefix, a page after the other or many pages at once.

s3fs's own find() holds every key with all its metadata.
"""

from __future__ import annotations

import os.path
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pipeline.inputs.entries import Entry, version_of
from pipeline.store import objects

REQUESTS = 16  # at once
# pages in memory that are not their turn yet: of one range, and of all
AHEAD, ALL_AHEAD = 8, 128
# what Amazon calls buckets and lists in another order, or none: directory buckets, access points
# that change answers, and those of several regions
OTHER_BUCKETS = ("--x-s3", "--ol-s3", ".mrap")
Page = list[Entry]


def walk(fs: Any, path: str) -> Iterator[Entry]:
    """The object at a path and those below it, in the store's order."""
    bucket, key, _ = fs.split_path(path)
    if key and not key.endswith("/"):
        for entry in page(fs, Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", ()):
            if entry["Key"] == key:
                yield f"{bucket}/{key}", entry["Size"], version_of(entry)
    prefix = f"{key.rstrip('/')}/" if key else ""
    if is_ordered(fs, bucket):
        yield from in_ranges(fs, bucket, prefix)
    else:
        yield from _in_turn(fs, bucket, prefix)


def is_ordered(fs: Any, bucket: str) -> bool:
    """Whether the store is known to list keys in the order of their characters.

    Amazon says so of its buckets. Other stores may keep folders, whose order is another one, and
    what begins in the middle would miss objects without a word.
    """
    if ":" in bucket or bucket.endswith(OTHER_BUCKETS):
        return False
    fs.connect()
    host = urlsplit(str(fs._s3.meta.endpoint_url)).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def page(fs: Any, **request: Any) -> dict[str, Any]:
    """An answer of ListObjectsV2."""
    found: dict[str, Any] = objects.retrying(lambda: fs.call_s3("list_objects_v2", **request))
    return found


def _in_turn(fs: Any, bucket: str, prefix: str) -> Iterator[Entry]:
    request = {"Bucket": bucket, "Prefix": prefix}
    while True:
        found = page(fs, **request)
        yield from _entries(bucket, found)
        if not found.get("IsTruncated"):
            return
        request["ContinuationToken"] = found["NextContinuationToken"]


def _entries(bucket: str, found: dict[str, Any]) -> Page:
    return [
        (f"{bucket}/{entry['Key']}", entry["Size"], version_of(entry))
        for entry in found.get("Contents", ())
    ]


@dataclass
class Range:
    """The names behind one and up to another, of which some pages have come.

    Attributes:
        after: the last name that has come, at first the one behind which the range begins.
        end: the last name that can be in it; None where that is the listing's end.
        first: of the names in the latest page; empty before there is one.
        pages: that have come and not had their turn.
        asked: the request for the next page; None while there is none.
        ended: whether all have come.
    """

    after: str
    end: str | None
    first: str = ""
    pages: deque[Page] = field(default_factory=deque)
    asked: Future[dict[str, Any]] | None = None
    ended: bool = False

    def take(self, bucket: str) -> None:
        """What its request has brought, but for what lies behind its end.

        Raises:
            OSError: it could not be had, or is not in order.
        """
        assert self.asked
        found, self.asked = self.asked.result(), None
        entries = _entries(bucket, found)
        names = [name for name, *_ in entries]
        if names != sorted(names) or (names and names[0] <= self.after):
            raise OSError("the store lists its keys out of order")
        kept = [e for e in entries if self.end is None or e[0] <= self.end]
        if kept:
            self.pages.append(kept)
            self.first, self.after = kept[0][0], kept[-1][0]
        self.ended = len(kept) < len(entries) or not found.get("IsTruncated")

    def split(self, least: int) -> Range | None:
        """Give away the names that begin otherwise than its latest one; None where it cannot.

        The earlier the character that differs, the more there may be of them. Characters that
        differ within a page would leave less than a page. A range of no names costs a request, and
        nothing else depends on what is chosen.

        Args:
            least: characters that all names have in common.
        """
        if self.ended or not self.first:
            return None
        start = least if self.end is None else _common(self.after, self.end)
        for place in range(max(start, least), _common(self.first, self.after)):
            bound = _behind(self.after, place)
            if bound and self.after < bound and (self.end is None or bound < self.end):
                given, self.end = Range(bound, self.end), bound
                return given
        return None


def _common(one: str, other: str) -> int:
    return len(os.path.commonprefix([one, other]))


def _behind(name: str, place: int) -> str | None:
    """The least text behind all that begin as a name does, up to and with one place."""
    if place >= len(name) or name[place] == "\U0010ffff":
        return None
    following = ord(name[place]) + 1
    return name[:place] + chr(0xE000 if following == 0xD800 else following)


def in_ranges(fs: Any, bucket: str, prefix: str) -> Iterator[Entry]:
    """The objects below a prefix in the order of their names, of a store that lists them so.

    A page names the one after it, so one listing waits for each of its pages. Where there is more
    than one page, ranges of names are listed at the same time. Whoever waits first gets his pages
    first: the range in front is divided as long as requests are to spare, and a range far ahead
    pauses after `AHEAD` pages. So what is in memory is bounded.

    Raises:
        OSError: the store cannot be read, or lists otherwise.
    """
    first = page(fs, Bucket=bucket, Prefix=prefix)
    entries = _entries(bucket, first)
    yield from entries
    if not first.get("IsTruncated"):
        return
    ranges = [Range(entries[-1][0], None, entries[0][0])]
    threads = ThreadPoolExecutor(REQUESTS)
    try:
        while ranges:
            _ask(fs, bucket, prefix, ranges, threads)
            front = ranges[0]
            if front.pages:
                yield from front.pages.popleft()
            elif front.ended:
                ranges.pop(0)
            else:
                wait([r.asked for r in ranges if r.asked], return_when=FIRST_COMPLETED)
            for answered in [r for r in ranges if r.asked and r.asked.done()]:
                answered.take(bucket)
    finally:
        threads.shutdown(cancel_futures=True)


def _ask(
    fs: Any, bucket: str, prefix: str, ranges: list[Range], threads: ThreadPoolExecutor
) -> None:
    """As many requests as there may be, those first whose turn is first."""

    def ask(range_: Range) -> None:
        request = {"Bucket": bucket, "Prefix": prefix, "StartAfter": range_.after[least:]}
        range_.asked = threads.submit(page, fs, **request)

    least = len(bucket) + 1
    spare = REQUESTS - sum(r.asked is not None for r in ranges)
    has_room = sum(len(r.pages) for r in ranges) < ALL_AHEAD
    for range_ in ranges:
        may = range_ is ranges[0] or (has_room and len(range_.pages) < AHEAD)
        if spare and may and not range_.asked and not range_.ended:
            ask(range_)
            spare -= 1
    number = 0
    while spare and has_room and number < len(ranges):
        given = ranges[number].split(least + len(prefix))
        if given:
            ranges.insert(number + 1, given)
            ask(given)
            spare -= 1
        else:
            number += 1
