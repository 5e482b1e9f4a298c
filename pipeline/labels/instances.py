"""COCO's instances JSON, an object at a time: masks never take memory, and odd ones end nothing."""

from __future__ import annotations

import codecs
import gzip
import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from types import SimpleNamespace
from typing import IO, Any, NamedTuple

import ijson

from pipeline.store import urls

GZIP = b"\x1f\x8b"
# a whole string, one that is still open, or what Python writes for numbers that are none
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|"|-?\b(?:NaN|Infinity)\b', re.DOTALL)
WORD_END = re.compile(rb"[-A-Za-z]*\Z")


class OddError(ValueError):
    """An annotation that cannot be used; the message says why, as the end of "left out: n ..."."""


class Box(NamedTuple):
    """A box of an annotation.

    Attributes:
        xywh: left, top, width, height, in pixels.
        area: of the object; of its box where the annotation has no usable one.
        crowd: whether it stands for many objects.
    """

    xywh: tuple[float, float, float, float]
    area: float
    crowd: bool


def items(url: str, key: str) -> Iterator[Any]:
    """The entries of the list `key`, or of the list that the file is where that is empty; numbers
    that are none become null.

    Raises:
        ijson.JSONError: it is no JSON.
    """
    done = 0
    try:
        for entry in _parsed(url, key, lenient=False):
            done += 1
            yield entry
    except ijson.JSONError:  # `NaN` is none to the parser, and looking for it takes time
        yield from islice(_parsed(url, key, lenient=True), done, None)


def pairs(url: str, key: str) -> Iterator[tuple[str, Any]]:
    """The keys and values of the object `key`.

    Raises:
        ijson.JSONError: it is no JSON.
    """
    with opened(url) as text:
        yield from ijson.kvitems(text, key, use_float=True)


def keys(url: str) -> Iterator[str]:
    """The keys of the object that the file is.

    Raises:
        ijson.JSONError: it is no JSON.
    """
    with opened(url) as text:
        for prefix, event, value in ijson.parse(text):
            if event == "map_key" and not prefix:
                yield value


def identifier(value: Any) -> int | str | None:
    """An id as a number or text; None if it is neither. 7.0 is 7."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) in (int, str) else None


def box(entry: dict[str, Any]) -> Box:
    """The box of an annotation, or that around its polygon.

    Raises:
        OddError: it has neither.
    """
    xywh = entry.get("bbox")
    try:
        x, y, width, height = map(float, xywh or ())
        usable = math.isfinite(x + y + width + height) and not isinstance(xywh, str)
    except (TypeError, ValueError, OverflowError):
        usable = False
    if not usable:
        x, y, width, height = _around(entry.get("segmentation"))
    if width < 0 or height < 0:
        raise OddError("whose box has a negative width or height")
    try:
        area = float(entry["area"])
    except (KeyError, TypeError, ValueError, OverflowError):
        area = math.nan
    if not 0 <= area < math.inf:
        area = width * height
    return Box((x, y, width, height), area, entry.get("iscrowd") in (1, "1"))


def _numbers(values: Any) -> list[float]:
    """Finite numbers, or nothing if one of them is none."""
    try:
        found = list(map(float, values))
    except (TypeError, ValueError, OverflowError):
        return []
    return found if all(map(math.isfinite, found)) and not isinstance(values, str) else []


def _around(polygons: Any) -> Sequence[float]:
    """Left, top, width and height of what is around polygons, or a single one."""
    if isinstance(polygons, list) and polygons and not isinstance(polygons[0], list):
        polygons = [polygons]
    points: list[float] = []
    for polygon in polygons if isinstance(polygons, list) else ():
        numbers = _numbers(polygon)
        if len(numbers) < 6 or len(numbers) % 2:
            raise OddError("without a box or a polygon")
        points += numbers
    if not points:
        raise OddError("without a box or a polygon")
    xs, ys = points[::2], points[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


# ------------------------------------------------------------------------------- the stream


def _parsed(url: str, key: str, lenient: bool) -> Iterator[Any]:
    with opened(url) as text:
        source = _WithoutNaN(text) if lenient else text
        yield from ijson.items(source, f"{key}.item" if key else "item", use_float=True)


@contextmanager
def opened(url: str) -> Iterator[Any]:
    """A file of text as a stream of UTF-8 without a byte-order mark; it may be zipped."""
    fs, path = urls.filesystem(url)
    with fs.open(path, "rb") as file:
        yield _text(file)


def _text(file: IO[bytes]) -> Any:
    """A stream of UTF-8 without a byte-order mark, out of what may be zipped or UTF-16."""
    stream: Any = io.BufferedReader(file)
    if stream.peek(4).startswith(GZIP):
        stream = gzip.GzipFile(fileobj=stream)
    if stream.peek(4).startswith(codecs.BOM_UTF8):
        stream.read(len(codecs.BOM_UTF8))
    elif stream.peek(4)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        # what else it has is the stream's own, such as `readinto`, by which ijson would get UTF-16
        return SimpleNamespace(read=codecs.EncodedFile(stream, "utf-8", "utf-16").read)
    return stream


class _WithoutNaN:
    """A stream of JSON with null in place of `NaN` and `Infinity`."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.rest = b""  # of what was read, from outside of a string on

    def read(self, size: int) -> bytes:
        """At least one byte, unless the file is at its end; `size` is what is read at once."""
        if size == 0:  # ijson looks so at what kind of file it is
            return b""
        while data := self.file.read(max(size, 2**16)):
            if done := self._taken(self.rest + data):
                return done
        done, self.rest = TOKEN.sub(_number, self.rest), b""
        return done

    def _taken(self, data: bytes) -> bytes:
        """What can be passed on; the start of a word or of a string waits for its end."""
        cut = WORD_END.search(data)
        end = cut.start() if cut else len(data)
        for token in TOKEN.finditer(data):
            if token.group() == b'"':
                end = token.start()
                break
        self.rest = data[end:]
        return TOKEN.sub(_number, data[:end])


def _number(token: re.Match[bytes]) -> bytes:
    return token.group() if token.group().startswith(b'"') else b"null"
