"""Which regions a TIFF larger than memory is read in, or why it is not."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pipeline.errors import Code
from pipeline.images import tiling
from pipeline.images.decode import read_header
from pipeline.images.depth import DECLARED, Samples
from pipeline.images.errors import DecodeError
from pipeline.images.tiff import (
    BITS_PER_SAMPLE,
    COMPRESSION,
    NONE,
    PHOTOMETRIC,
    SAMPLES,
    SUBSAMPLING,
    YCBCR,
    number,
    numbers,
    refuse,
    unsupported,
)
from pipeline.images.tiff_regions import SWAPPED, Region, StoredImage

OLD_JPEG = 6
# Pixels of a region's side, about, and tiles of the file: its windows share what is read of it,
# and what its neighbours read again is less, the larger it is.
REGION_SIDE, LEAST_PARTS = 4096, 7
# an image of more pixels than so many times `max_pixels` would be at work for days; and of more
# regions, as an endless ribbon has them, nobody has room for the list
MOST_REGIONS, MOST_LISTED = 1000, 2**16


def plan(
    stored: StoredImage, tile: int, overlap: float, max_pixels: int, samples: Samples
) -> list[Region]:
    """The regions of an image that together hold each of its tiles once.

    Args:
        stored: how it is.
        tile, overlap: see `tiling.views`; what that says of a region by itself, the whole left
            out, are the image's tiles in it.
        max_pixels: of a region, with all of the strips or tiles of the file that it touches.
        samples: what they shall become.

    Raises:
        DecodeError: too many pixels, or an image that can only be read as a whole, or not at all.
    """
    if stored.width * stored.height > max_pixels * MOST_REGIONS:
        message = f"{stored.width}x{stored.height} is over {MOST_REGIONS} times max_pixels"
        raise DecodeError(Code.TOO_MANY_PIXELS, f"{message}, which is {max_pixels}")
    first = stored.size(Region(0, 0, min(tile, stored.width), min(tile, stored.height)))
    if math.prod(first) > max_pixels:
        raise _too_large(stored, tile, first, max_pixels)
    # a strip is as wide as what is stored
    wide, high = not stored.is_tiled, False
    if stored.orientation in SWAPPED:
        wide, high = high, wide
    side = REGION_SIDE
    if stored.is_tiled:
        parts = LEAST_PARTS * max(stored.part_width, stored.part_height)
        side = max(side, min(parts, math.isqrt(max_pixels)))
    columns, rows = (tiling.count(n, tile, overlap) for n in (stored.width, stored.height))
    for count in range(max(1, min(side // tile, max(columns, rows))), 0, -1):
        across, down = columns if wide else count, rows if high else count
        if -(-columns // across) * -(-rows // down) > MOST_LISTED:
            message = f"{stored.width}x{stored.height} takes over {MOST_LISTED} regions"
            raise DecodeError(Code.TOO_MANY_PIXELS, f"{message} of at most {max_pixels} pixels")
        regions = list(_regions(stored, tile, overlap, across, down))
        if all(math.prod(stored.size(region)) <= max_pixels for region in regions):
            check(stored, regions[0], max_pixels, samples)
            return regions
    raise _too_large(stored, tile, max(map(stored.size, regions)), max_pixels)


def _too_large(
    stored: StoredImage, tile: int, size: tuple[int, int], max_pixels: int
) -> DecodeError:
    width, height = size
    kind = "tiles" if stored.is_tiled else "strips"
    message = f"the {kind} that a window of {tile} pixels needs are {width}x{height} together"
    message += f", over max_pixels, which is {max_pixels}"
    return DecodeError(Code.TOO_MANY_PIXELS, message)


def _regions(
    stored: StoredImage, tile: int, overlap: float, across: int, down: int
) -> Iterator[Region]:
    """Each of so many tiles across and down, row by row."""
    columns = list(_spans(tiling.starts(stored.width, tile, overlap), stored.width, tile, across))
    rows = _spans(tiling.starts(stored.height, tile, overlap), stored.height, tile, down)
    for y, height in rows:
        for x, width in columns:
            yield Region(x, y, width, height)


def _spans(starts: np.ndarray, length: int, tile: int, count: int) -> Iterator[tuple[int, int]]:
    """Start and length of what so many tiles of a row or column together cover."""
    for first in range(0, len(starts), count):
        last = min(first + count, len(starts)) - 1
        yield int(starts[first]), int(min(starts[last] + tile, length) - starts[first])


def check(stored: StoredImage, region: Region, max_pixels: int, samples: Samples) -> None:
    """Refuse what only a whole image tells, and what cannot be decoded.

    Args:
        stored: an image.
        region: of it.
        max_pixels: see `read_header`.
        samples: what they shall become.

    Raises:
        DecodeError: says why.
    """
    tags = stored.tags
    refuse(tags)
    _check_kind(tags)
    is_deep = number(tags, BITS_PER_SAMPLE, 1) > 8
    if is_deep and samples.depth_range == "auto":
        reason = "depth_range auto needs the whole image; give MIN and MAX to read it in windows"
        raise unsupported(tags, reason)
    has_range = number(tags, SAMPLES, 1) == 1 or samples.bands
    declared = any(tag in tags for pair in DECLARED for tag in pair)
    if is_deep and has_range and declared and not samples.depth_range:
        reason = "only the whole image tells whether samples leave the range that it declares"
        raise unsupported(tags, f"{reason}; give depth_range MIN and MAX to read it in windows")
    read_header(stored.file(region, {}), max_pixels, samples)


def _check_kind(tags: ImageFileDirectory_v2) -> None:
    """Refuse what a part of a file does not tell as the whole does."""
    compression, photometric = number(tags, COMPRESSION, NONE), number(tags, PHOTOMETRIC, 0)
    if compression == OLD_JPEG:
        raise unsupported(tags, "old-style JPEG compression cannot be read in windows")
    # what is left out, Pillow guesses from the bytes that are stored
    if photometric == YCBCR and compression == NONE and not numbers(tags, SUBSAMPLING):
        raise unsupported(
            tags, "YCbCr that does not declare its subsampling cannot be read in windows"
        )
