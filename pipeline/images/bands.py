"""Bands of a TIFF, of any number: the chosen ones, read as grey by Pillow and its libtiff."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.errors import Code
from pipeline.images.errors import DecodeError
from pipeline.images.formats import EncodedFile, failure
from pipeline.images.tiff import (
    BITS_PER_SAMPLE,
    COMPRESSION,
    GREY,
    LENGTH,
    MOST_SAMPLES,
    NONE,
    ORIENTATION,
    PHOTOMETRIC,
    PLANAR,
    RGB,
    ROWS_PER_STRIP,
    SAMPLES,
    STRIPS,
    TILE_LENGTH,
    TILE_WIDTH,
    TILES,
    WIDTH,
    TiffFile,
    check_layout,
    number,
    numbers,
    refuse,
    unsupported,
)

FILL_ORDER, PREDICTOR = 266, 317
DIFFERENCES = 2  # a predictor
PACKBITS = 32773
# LZW, Deflate by two numbers, LZMA, Zstandard: what they pack is bytes, whatever those mean, and
# a predictor may come before them
AFTER_PREDICTOR = (5, 8, 32946, 34925, 50000)
# what is the same of all bands
KEPT = (
    *(WIDTH, LENGTH, COMPRESSION, FILL_ORDER, PREDICTOR, ROWS_PER_STRIP),
    *(TILE_WIDTH, TILE_LENGTH, *STRIPS, *TILES),
)
BYTEWISE = (NONE, PACKBITS, *AFTER_PREDICTOR)


class BandsFile(TiffFile):
    """A TIFF of which only the tags are read, until it is asked for its bands.

    Attributes:
        bands: numbers from 1.
    """

    bands: tuple[int, ...]

    def _setup(self) -> None:
        tags = self.tag_v2
        size = number(tags, WIDTH, 0), number(tags, LENGTH, 0)
        self._size = size[::-1] if number(tags, ORIENTATION, 1) in (5, 6, 7, 8) else size
        self._mode = "L"  # Pillow wants one

    def values(self, max_pixels: int) -> np.ndarray:
        """The samples as stored, not turned upright.

        Returns:
            [height, width, bands] uint8 or uint16.

        Raises:
            DecodeError: other samples than the chosen bands', of which there are too many.
            Exception: whatever Pillow raises at damage.
        """
        tags = self.tag_v2
        if number(tags, PLANAR, 1) == 2:
            return np.dstack([self._plane(band - 1, max_pixels) for band in self.bands])
        width, count = number(tags, WIDTH, 0), number(tags, SAMPLES, 1)
        pixels = width * number(tags, LENGTH, 0)
        if pixels * count > max_pixels * MOST_SAMPLES:
            message = f"{pixels} pixels of {count} samples are over {MOST_SAMPLES} times max_pixels"
            raise DecodeError(Code.TOO_MANY_PIXELS, f"{message}, which is {max_pixels}")
        wide = {WIDTH: [width * count], PREDICTOR: [1]}
        tile = number(tags, TILE_WIDTH, 0)
        if tile:
            wide[TILE_WIDTH] = [tile * count]
        samples = self._grey(wide, max_pixels * MOST_SAMPLES)
        samples = samples.reshape(samples.shape[0], width, count)
        chosen = samples[..., [band - 1 for band in self.bands]]
        packed = number(tags, COMPRESSION, NONE) in AFTER_PREDICTOR
        if packed and number(tags, PREDICTOR, 1) == DIFFERENCES:
            step = tile or width
            for x in range(0, width, step):
                part = chosen[:, x : x + step]
                np.cumsum(part, axis=1, dtype=part.dtype, out=part)
        return chosen

    def _plane(self, index: int, max_pixels: int) -> np.ndarray:
        changes = {}
        count = number(self.tag_v2, SAMPLES, 1)
        for tag in (*STRIPS, *TILES):
            of_all = numbers(self.tag_v2, tag)
            each = len(of_all) // count
            changes[tag] = of_all[index * each : (index + 1) * each]
        return self._grey(changes, max_pixels)

    def _grey(self, changes: Mapping[int, Sequence[int]], max_pixels: int) -> np.ndarray:
        """The samples of the same file with other tags, read as grey: [height, width]."""
        assert isinstance(self.fp, EncodedFile)
        tags = self.tag_v2
        given = {tag: numbers(tags, tag) for tag in KEPT} | dict(changes)
        given |= {BITS_PER_SAMPLE: numbers(tags, BITS_PER_SAMPLE)[:1], PHOTOMETRIC: [GREY]}
        file = _with_tags(self.fp.getvalue(), given, little=tags.prefix == b"II")
        grey = TiffFile(EncodedFile(file))
        check_layout(grey, max_pixels)
        grey.load()
        values = np.asarray(grey)
        return values.astype(values.dtype.newbyteorder("="), copy=False)


def open_bands(encoded: bytes, bands: tuple[int, ...]) -> BandsFile | None:
    """The TIFF, to be asked for its bands; None if it has none to choose from.

    Bands are the samples of grey and of RGB. CMYK, YCbCr, CIELab and palettes are not made of
    bands, nor are other formats.

    Raises:
        DecodeError: there is no such band, or no way to read it; or a damaged header.
    """
    if encoded[:4] not in (b"II*\0", b"MM\0*", b"II+\0"):
        return None
    source = EncodedFile(encoded)
    try:
        image = BandsFile(source)
        tags = image.tag_v2
        if number(tags, PHOTOMETRIC, 0) not in (0, GREY, RGB):
            return None
        _check(image, bands)
    except DecodeError:
        raise
    except Exception as error:  # tags of any type
        raise failure(error, source) from error
    image.bands = bands
    return image if number(tags, SAMPLES, 1) > 1 else None


def _check(image: BandsFile, bands: tuple[int, ...]) -> None:
    tags = image.tag_v2
    count, bits = number(tags, SAMPLES, 1), numbers(tags, BITS_PER_SAMPLE)
    if max(bands) > count:
        message = f"there is no band {max(bands)}: this TIFF has {count}"
        raise DecodeError(Code.UNSUPPORTED_MODE, message)
    if count == 1:
        return
    refuse(tags)
    if len(set(bits)) != 1 or bits[0] not in (8, 16):
        raise unsupported(tags, "bands must have 8 or 16 bits each")
    if number(tags, COMPRESSION, NONE) not in BYTEWISE:
        raise unsupported(tags, "bands cannot be read one by one with its compression")


def _with_tags(file: bytes, tags: Mapping[int, Sequence[int]], little: bool) -> bytes:
    """The file with a new directory before it, of numbers alone; offsets are moved along."""
    tags = {tag: values for tag, values in sorted(tags.items()) if values}
    # as a BigTIFF, which Pillow reads with low bytes first only
    order, word, kind = ("<", "Q", 16) if little else (">", "L", 4)
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) if little else b"MM\0*\0\0\0\x08"
    count = struct.pack(order + ("Q" if little else "H"), len(tags))
    size = struct.calcsize(order + word)
    at = len(head) + len(count) + len(tags) * (4 + 2 * size) + size
    moved = at + size * sum(len(values) for values in tags.values() if len(values) > 1)
    entries, arrays = b"", b""
    for tag, values in tags.items():
        if tag in (STRIPS[0], TILES[0]):
            values = [value + moved for value in values]
        entry = values[0]
        if len(values) > 1:
            entry = at + len(arrays)
            arrays += struct.pack(f"{order}{len(values)}{word}", *values)
        entries += struct.pack(f"{order}HH2{word}", tag, kind, len(values), entry)
    return b"".join([head, count, entries, struct.pack(order + word, 0), arrays, file])
