"""Which regions a TIFF larger than memory is read in, or why it is not."""

from __future__ import annotations

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
# an image of more pixels than so many times `max_pixels` would be at work for days
MOST_REGIONS = 1000


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
    columns = np.unique(tiling.views(1, stored.width, tile, overlap)[:, 0])
    rows = np.unique(tiling.views(stored.height, 1, tile, overlap)[:, 1])
    # a strip is as wide as what is stored
    wide, high = not stored.is_tiled, False
    if stored.orientation in SWAPPED:
        wide, high = high, wide
    side = max(REGION_SIDE, LEAST_PARTS * max(stored.part_width, stored.part_height))
    most = max(1, side // tile) if stored.is_tiled else max(1, REGION_SIDE // tile)
    for count in range(most, 0, -1):
        across, down = len(columns) if wide else count, len(rows) if high else count
        regions = [
            Region(x, y, width, height)
            for y, height in _spans(rows, stored.height, tile, down)
            for x, width in _spans(columns, stored.width, tile, across)
        ]
        sizes = [stored.size(region) for region in regions]
        if max(width * height for width, height in sizes) <= max_pixels:
            check(stored, regions[0], max_pixels, samples)
            return regions
    width, height = max(sizes)
    kind = "tiles" if stored.is_tiled else "strips"
    message = f"a window of {tile} pixels lies in {kind} of together {width}x{height}"
    raise DecodeError(Code.TOO_MANY_PIXELS, f"{message}, over max_pixels, which is {max_pixels}")


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
        reason = "whether samples leave the range that it declares, only the whole image tells"
        raise unsupported(tags, f"{reason}; give depth_range MIN and MAX to read it in windows")
    read_header(stored.file(region, {}), max_pixels, samples)


def _check_kind(tags: ImageFileDirectory_v2) -> None:
    """Refuse what a part of a file does not tell as the whole does."""
    compression, photometric = number(tags, COMPRESSION, NONE), number(tags, PHOTOMETRIC, 0)
    if compression == OLD_JPEG:
        raise unsupported(tags, "JPEG in its old form is not read in windows")
    # what is left out, Pillow guesses from the bytes that are stored
    if photometric == YCBCR and compression == NONE and not numbers(tags, SUBSAMPLING):
        raise unsupported(tags, "YCbCr without its subsampling is not read in windows")
