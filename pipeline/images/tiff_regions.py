"""Regions of a TIFF larger than memory: what is stored of one, as a TIFF of its own.

Its strips or tiles are taken over as they are. So a region is decoded by what decodes whole images,
to the same pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pipeline.errors import Code
from pipeline.images.bands import FILL_ORDER, PREDICTOR
from pipeline.images.depth import DECLARED
from pipeline.images.errors import DecodeError
from pipeline.images.tiff import (
    BITS_PER_SAMPLE,
    COLOR_MAP,
    COMPRESSION,
    EXTRA_SAMPLES,
    INK_SET,
    LENGTH,
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
    number,
)
from pipeline.words import explain

LONG, LONG8 = 4, 16
FAX_OPTIONS, JPEG_TABLES, COEFFICIENTS, POSITIONING, REFERENCE = (292, 293), 347, 529, 531, 532
# what says how samples are stored and what they mean
KEPT = (
    *(BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES, PLANAR, PREDICTOR),
    *(COLOR_MAP, INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING, *FAX_OPTIONS, JPEG_TABLES),
    *(COEFFICIENTS, POSITIONING, REFERENCE, TILE_WIDTH, TILE_LENGTH, ORIENTATION),
    *(tag for pair in DECLARED for tag in pair),
)
# orientations in which the image is seen mirrored from left to right, and upside down, after rows
# and columns have changed places where they do
MIRRORED, UPSIDE_DOWN, SWAPPED = (2, 3, 6, 7), (3, 4, 7, 8), (5, 6, 7, 8)

# where a strip or tile begins in the file, and where it ends
Range = tuple[int, int]


class Region(NamedTuple):
    """A rectangle of an image, in its pixels, x to the right, y down, as a person sees it.

    Or all of an overview of the image, in pixels of that: then `overview` is the place of its
    directory in the file, which else is 0.
    """

    x: int
    y: int
    width: int
    height: int
    overview: int = 0


@dataclass(frozen=True)
class StoredImage:
    """How an image of a TIFF is stored.

    Attributes:
        width, height: in pixels, as a person sees it.
        orientation: 1 to 8, as in EXIF: what is to be done with what is stored.
        part_width, part_height: of a tile or a strip, in pixels that are stored.
        is_tiled: in tiles, not in strips.
        offsets, sizes: [planes, rows, columns] int64, the place of each strip or tile in the file,
            and its bytes; one plane where a pixel's samples stand together.
        tags: of its directory.
    """

    width: int
    height: int
    orientation: int
    part_width: int
    part_height: int
    is_tiled: bool
    offsets: np.ndarray
    sizes: np.ndarray
    tags: ImageFileDirectory_v2

    def size(self, region: Region) -> tuple[int, int]:
        """Width and height of a region's own file as it is stored; it begins where a part does."""
        x, y, width, height, _ = self._stored(region)
        if not self.is_tiled:
            return number(self.tags, WIDTH, 0), y % self.part_height + height
        return x % self.part_width + width, y % self.part_height + height

    def _stored(self, region: Region) -> Region:
        """Where a region lies in what is stored."""
        x, y, width, height, _ = region
        if self.orientation in MIRRORED:
            x = self.width - x - width
        if self.orientation in UPSIDE_DOWN:
            y = self.height - y - height
        swapped = self.orientation in SWAPPED
        return Region(y, x, height, width) if swapped else Region(x, y, width, height)

    def parts(self, region: Region) -> list[Range]:
        """The strips or tiles that a region lies in, plane by plane and row by row."""
        region = self._stored(region)
        last_row = (region.y + region.height - 1) // self.part_height
        last_column = (region.x + region.width - 1) // self.part_width
        rows = slice(region.y // self.part_height, last_row + 1)
        columns = slice(region.x // self.part_width, last_column + 1)
        starts = self.offsets[:, rows, columns].ravel()
        ends = starts + self.sizes[:, rows, columns].ravel()
        return list(zip(starts.tolist(), ends.tolist(), strict=True))

    def file(self, region: Region, data: Mapping[Range, bytes]) -> bytes:
        """A TIFF of a region, and of what stands before it in its parts; see `within`.

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
        ours = self.tags
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


def within(pixels: np.ndarray, region: Region, orientation: int) -> np.ndarray:
    """The pixels of a region, of those of its own file.

    Args:
        pixels: [height, width, 3], turned upright. What is stored ends where the region does.
        region: which.
        orientation: of the file.
    """
    rows = slice(region.height) if orientation in UPSIDE_DOWN else slice(-region.height, None)
    columns = slice(region.width) if orientation in MIRRORED else slice(-region.width, None)
    return pixels[rows, columns]
