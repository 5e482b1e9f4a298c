"""A JPEG that ends too early: how much of its picture is there.

Its data are decoded twice, once as they are and once ended as if they were whole. Of a picture in
one scan, the rows that come of the first are sure. Where data go on in any way behind their end,
and no pixel is another one, nothing was missing.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from pipeline.images.jpeg import SOS, segments

END = b"\xff\xd9"
BASELINE, EXTENDED, PROGRESSIVE, RESTART_INTERVAL = 0xC0, 0xC1, 0xC2, 0xDD
RESTART = re.compile(rb"\xff([\xd0-\xd7])")
# data that go on otherwise than any picture does
NOISE = [random.Random(seed).randbytes(256).replace(b"\xff", b"") for seed in range(4)]


@dataclass(frozen=True)
class _Headers:
    """Of a JPEG, what is said of its data before they come."""

    process: int
    frame: bytes
    scans: list[bytes]
    restarts: bool
    data: int  # where those of the last scan begin

    @property
    def is_one_scan(self) -> bool:
        return self.process != PROGRESSIVE and len(self.scans) == 1


def recovered(jpeg: bytes) -> tuple[Image.Image, float] | None:
    """The picture of a JPEG that ends too early, and the share of its pixels that are there.

    What is missing is as libjpeg fills it. The share is 1 where nothing but the end is missing, and
    counts whole rows otherwise. None where no row is sure: a scan that is missing beside others
    would have changed all of them.

    Raises:
        Exception: whatever Pillow raises at damage.
    """
    jpeg = _without_padding(jpeg)
    headers = _headers(jpeg)
    if not headers or not _has_all_scans(headers):
        return None
    ended = _decoded(jpeg + END)
    pixels = np.asarray(ended)
    if all(np.array_equal(pixels, np.asarray(other)) for other in _otherwise(jpeg, headers)):
        return ended, 1.0
    if not headers.is_one_scan:
        return None
    unended = np.asarray(_decoded(jpeg))
    sure = (unended == pixels).reshape(len(pixels), -1).all(axis=1)
    rows = int(np.argmin(sure))
    return (ended, rows / len(pixels)) if rows else None


def _without_padding(jpeg: bytes) -> bytes:
    """Zeros at the end are not of the picture, but of the room that was made for its file."""
    bare = jpeg.rstrip(b"\0")
    # as a byte of the picture, 255 is followed by a zero; alone it is half of something
    return bare + b"\0" if bare[-1:] == b"\xff" and bare != jpeg else bare.rstrip(b"\xff")


def _headers(jpeg: bytes) -> _Headers | None:
    process, frame, restarts, data = 0, b"", False, 0
    scans = []
    for marker, start, end in segments(jpeg):
        content = jpeg[start + 4 : end]
        if end > len(jpeg):
            return None
        if marker in (BASELINE, EXTENDED, PROGRESSIVE):
            process, frame = marker, content
        elif marker == RESTART_INTERVAL:
            restarts = True
        elif marker == SOS:
            scans.append(content)
            data = end
    return _Headers(process, frame, scans, restarts, data) if frame and scans else None


def _has_all_scans(headers: _Headers) -> bool:
    """Whether each coefficient of each component is in a scan, to its last bit."""
    missing = set(itertools.product(headers.frame[6::3], range(64)))
    for scan in headers.scans:
        components, (first, last, bits) = scan[1:-3:2], scan[-3:].rjust(3, b"\xff")
        if headers.process != PROGRESSIVE:
            first, last, bits = 0, 63, 0
        if bits & 15 == 0:
            missing -= set(itertools.product(components, range(first, last + 1)))
    return not missing


def _otherwise(jpeg: bytes, headers: _Headers) -> Iterator[Image.Image]:
    """The picture as other data go on where these end, also behind the restart that is next."""
    gaps = [b""]
    if headers.restarts:
        last = RESTART.findall(jpeg, headers.data)[-1:] or [b"\xd7"]
        gaps.append(bytes([0xFF, 0xD0 + (last[0][0] + 1) % 8]))
    for noise, gap in itertools.product(NOISE, gaps):
        yield _decoded(jpeg + gap + noise + END)


def _decoded(jpeg: bytes) -> Image.Image:
    """The picture; black where the data do not reach."""
    image = JpegImageFile(io.BytesIO(jpeg))
    with contextlib.suppress(OSError):
        image.load()
    image.tile = []  # as far as it goes, it is loaded
    return image
