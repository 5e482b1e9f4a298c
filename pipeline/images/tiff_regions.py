"""Regions of a TIFF larger than memory: what is stored of one, as a TIFF of its own.

Its strips or tiles are taken over as they are. So a region is decoded by what decodes whole images,
to the same pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pipeline.errors import Code
from pipeline.images import tiling
from pipeline.images.bands import FILL_ORDER, PREDICTOR
from pipeline.images.decode import read_header
from pipeline.images.depth import DECLARED, Samples
from pipeline.images.errors import DecodeError
from pipeline.images.tiff import (
    BITS_PER_SAMPLE,
    COLOR_MAP,
    COMPRESSION,
    EXTRA_SAMPLES,
    INK_SET,
    LENGTH,
    NONE,
    ORIENTATION,
    PHOTOMETRIC,
    PLANAR,
    ROWS_PER_STRIP,
    SAMPLE_FORMAT,
    SAMPLES,
    STRIPS,
    SUBSAMPLING,
    TILE_LENGTH,
    TILE_WIDTH,
    TILES,
    WIDTH,
    YCBCR,
    number,
    numbers,
    refuse,
    unsupported,
)
from pipeline.words import explain

LONG, LONG8 = 4, 16
OLD_JPEG = 6
FAX_OPTIONS, JPEG_TABLES, COEFFICIENTS, POSITIONING, REFERENCE = (292, 293), 347, 529, 531, 532
# what says how samples are stored and what they mean
KEPT = (
    *(BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES, PLANAR, PREDICTOR),
    *(COLOR_MAP, INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING, *FAX_OPTIONS, JPEG_TABLES),
    *(COEFFICIENTS, POSITIONING, REFERENCE, TILE_WIDTH, TILE_LENGTH),
    *(tag for pair in DECLARED for tag in pair),
)
# Pixels of a region's side, about, and tiles of the file: its windows share what is read of it,
# and what its neighbours read again is less, the larger it is.
REGION_SIDE, LEAST_PARTS = 4096, 7
# an image of more pixels than so many times `max_pixels` would be at work for days
MOST_REGIONS = 1000

# where a strip or tile begins in the file, and where it ends
Range = tuple[int, int]


class Region(NamedTuple):
    """A rectangle of an image, in its pixels, x to the right, y down."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class StoredImage:
    """How an image of a TIFF is stored.

    Attributes:
        width, height: in pixels.
        part_width, part_height: of a tile or a strip, in pixels.
        is_tiled: in tiles, not in strips.
        offsets, sizes: [planes, rows, columns] int64, the place of each strip or tile in the file,
            and its bytes; one plane where a pixel's samples stand together.
        directory: its tags.
    """

    width: int
    height: int
    part_width: int
    part_height: int
    is_tiled: bool
    offsets: np.ndarray
    sizes: np.ndarray
    directory: ImageFileDirectory_v2

    def place(self, region: Region) -> tuple[int, int]:
        """Where a region begins in its own file: x and y, in pixels."""
        return region.x % self.part_width, region.y % self.part_height

    def size(self, region: Region) -> tuple[int, int]:
        """Width and height of a region's own file, in pixels; it begins where a part does."""
        x, y = self.place(region)
        return x + region.width if self.is_tiled else self.width, y + region.height

    def parts(self, region: Region) -> list[Range]:
        """The strips or tiles that a region lies in, plane by plane and row by row."""
        last_row = (region.y + region.height - 1) // self.part_height
        last_column = (region.x + region.width - 1) // self.part_width
        rows = slice(region.y // self.part_height, last_row + 1)
        columns = slice(region.x // self.part_width, last_column + 1)
        starts = self.offsets[:, rows, columns].ravel()
        ends = starts + self.sizes[:, rows, columns].ravel()
        return list(zip(starts.tolist(), ends.tolist(), strict=True))

    def file(self, region: Region, data: Mapping[Range, bytes]) -> bytes:
        """A TIFF of a region, which begins at `place` there.

        Args:
            region: of the image.
            data: what stands in its `parts`. Of one that is missing, or that the file's end cuts
                off, nothing is there, and whoever decodes it finds the end.

        Raises:
            DecodeError: its tags cannot be written.
        """
        try:
            return self._file(region, data)
        except Exception as error:  # Pillow raises about anything at damaged tags
            raise DecodeError(Code.CORRUPT, f"its tags are damaged: {explain(error)}") from error

    def _file(self, region: Region, data: Mapping[Range, bytes]) -> bytes:
        parts = self.parts(region)
        sizes = [end - start for start, end in parts]
        pairs = zip(parts, sizes, strict=True)
        stored = [found if len(found := data.get(p, b"")) == n else b"" for p, n in pairs]
        tags = self._tags(*self.size(region), sizes)
        head = struct.pack("<2sHI" if tags.prefix == b"II" else ">2sHI", tags.prefix, 42, 8)
        # the directory is as long whatever places it tells
        first = len(head) + len(tags.tobytes(len(head)))
        ends = np.cumsum([len(part) for part in stored])
        there = np.array([len(part) for part in stored])
        places = np.where(there == sizes, ends - there, ends[-1])
        if TILES[0] in tags:
            tags[TILES[0]] = (first + places).tolist()
        else:  # which Pillow moves behind the directory by itself
            tags[STRIPS[0]] = places.tolist()
        return b"".join([head, tags.tobytes(len(head)), *stored])

    def _tags(self, width: int, height: int, sizes: Sequence[int]) -> ImageFileDirectory_v2:
        ours = self.directory
        tags = ImageFileDirectory_v2(prefix=ours.prefix)
        for tag in KEPT:
            if tag in ours:
                tags.tagtype[tag] = LONG if ours.tagtype[tag] == LONG8 else ours.tagtype[tag]
                tags[tag] = ours[tag]
        places = TILES if TILES[0] in ours else STRIPS
        changed = {WIDTH: width, LENGTH: height, places[0]: [0] * len(sizes), places[1]: sizes}
        if not self.is_tiled:
            changed[ROWS_PER_STRIP] = self.part_height
        for tag, value in changed.items():
            tags.tagtype[tag] = LONG
            tags[tag] = value
        return tags


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
    _check(stored, max_pixels, samples)
    columns = np.unique(tiling.views(1, stored.width, tile, overlap)[:, 0])
    rows = np.unique(tiling.views(stored.height, 1, tile, overlap)[:, 1])
    side = max(REGION_SIDE, LEAST_PARTS * max(stored.part_width, stored.part_height))
    most = max(1, side // tile) if stored.is_tiled else max(1, REGION_SIDE // tile)
    for count in range(most, 0, -1):
        across = count if stored.is_tiled else len(columns)
        regions = [
            Region(x, y, width, height)
            for y, height in _spans(rows, stored.height, tile, count)
            for x, width in _spans(columns, stored.width, tile, across)
        ]
        sizes = [stored.size(region) for region in regions]
        if max(width * height for width, height in sizes) <= max_pixels:
            read_header(stored.file(regions[0], {}), max_pixels, samples)
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


def _check(stored: StoredImage, max_pixels: int, samples: Samples) -> None:
    """Refuse what would take for ever, and what only a whole image tells."""
    if stored.width * stored.height > max_pixels * MOST_REGIONS:
        message = f"{stored.width}x{stored.height} is over {MOST_REGIONS} times max_pixels"
        raise DecodeError(Code.TOO_MANY_PIXELS, f"{message}, which is {max_pixels}")
    tags = stored.directory
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


def _check_kind(tags: ImageFileDirectory_v2) -> None:
    """Refuse what a part of a file does not tell as the whole does."""
    compression, photometric = number(tags, COMPRESSION, NONE), number(tags, PHOTOMETRIC, 0)
    if number(tags, ORIENTATION, 1) in range(2, 9):
        raise unsupported(tags, "it is to be turned, so it is not read in windows")
    if compression == OLD_JPEG:
        raise unsupported(tags, "JPEG in its old form is not read in windows")
    # what is left out, Pillow guesses from the bytes that are stored
    if photometric == YCBCR and compression == NONE and not numbers(tags, SUBSAMPLING):
        raise unsupported(tags, "YCbCr without its subsampling is not read in windows")
