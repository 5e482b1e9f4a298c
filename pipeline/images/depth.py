"""Samples of more than 8 bits: which range of them becomes black to white."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL.ImageFile import ImageFile

from pipeline.images.tiff import BITS_PER_SAMPLE, PHOTOMETRIC, TiffFile, number

# smallest and largest sample value of a TIFF, as whole numbers and as numbers of any type
DECLARED = ((280, 281), (340, 341))
# QGIS's default, there called the cumulative count cut
PERCENTILES = (2, 98)
# of 256, an image within which has little contrast; 12 bits in 16 use as many by their high byte
FEW_LEVELS = 16


@dataclass(frozen=True)
class Samples:
    """How a run wants the samples of its images.

    Attributes:
        depth_range: of samples of more than 8 bits, what becomes black and what white; `auto` for
            what each image uses; None for what its file declares.
        bands: three numbers from 1 that are a TIFF's red, green and blue, or one that is its grey;
            None for the colours that it declares.
    """

    depth_range: tuple[int, ...] | str | None = None
    bands: tuple[int, ...] | None = None


def depth(image: ImageFile, encoded: bytes) -> int:
    """Bits of a sample of a PNG or a TIFF; 8 for all others, of which Pillow gives no more."""
    if isinstance(image, TiffFile):
        return number(image.tag_v2, BITS_PER_SAMPLE, 1)
    return encoded[24] if image.format == "PNG" else 8


def to_8_bits(
    values: np.ndarray,
    image: ImageFile,
    encoded: bytes,
    wanted: tuple[int, ...] | str | None,
    bands: Sequence[int] = (1,),
) -> np.ndarray:
    """Samples as grey levels, white where they are largest: uint8 of the same shape.

    A range of low to high becomes 0 to 255 linearly, rounded to the nearest, halves up; what is
    outside is clipped. It is `wanted`, where that is given. `auto` is the range from the 2nd to
    the 98th percentile of all bands together, or from the smallest to the largest value where
    these are the same. Else it is what the file declares: a TIFF by Min- and MaxSampleValue or
    SMin- and SMaxSampleValue, unless samples lie outside, and a PNG by sBIT, see `_unscaled`.
    Where nothing of that gives a range, the high byte is kept.

    Args:
        values: unsigned whole numbers of any shape, as stored.
        image: they are of.
        encoded: the file.
        wanted: `Samples.depth_range`.
        bands: numbers from 1 of the samples that `values` holds.
    """
    tiff = image if isinstance(image, TiffFile) else None
    bits, limits = depth(image, encoded), None
    if bits > 8:
        limits = _limits(values, wanted) if wanted else _declared(values, tiff, encoded, bands)
    grey: np.ndarray = _levels(*limits)[values] if limits else values >> (bits - 8)
    grey = grey.astype(np.uint8, copy=False)
    # Pillow inverts samples of up to 8 bits only
    return ~grey if tiff and number(tiff.tag_v2, PHOTOMETRIC, 0) == 0 else grey


def is_low_contrast(pixels: np.ndarray) -> bool:
    """Whether all values of [height, width, 3] uint8 lie within a 16th of the 256 levels."""
    return int(pixels.max()) - int(pixels.min()) < FEW_LEVELS


def _levels(low: int, high: int) -> np.ndarray:
    """The grey level of each possible sample."""
    above = np.clip(np.arange(2**16), low, high) - low
    return ((above * 510 + (high - low)) // (2 * (high - low))).astype(np.uint8)


def _limits(values: np.ndarray, wanted: tuple[int, ...] | str) -> tuple[int, int] | None:
    if wanted != "auto":
        low, high = (int(limit) for limit in wanted)
        return low, high
    low, high = np.percentile(values, PERCENTILES, method="nearest").astype(int).tolist()
    if low == high:
        low, high = int(values.min()), int(values.max())
    return (low, high) if low < high else None


def _declared(
    values: np.ndarray, tiff: TiffFile | None, encoded: bytes, bands: Sequence[int]
) -> tuple[int, int] | None:
    if tiff is None:
        return _unscaled(values, _significant_bits(encoded))
    top: int = 2 ** depth(tiff, encoded) - 1
    for smallest, largest in DECLARED:
        lows, highs = (_of_bands(tiff, tag, bands) for tag in (smallest, largest))
        if lows or highs:
            low, high = min(lows, default=0), max(highs, default=top)
            # both tags tell what is used, so that a sample outside shows them to be wrong
            used = low <= values.min() and values.max() <= high
            return (low, high) if used and low < high <= top and high - low < top else None
    return None


def _of_bands(tiff: TiffFile, tag: int, bands: Sequence[int]) -> list[int]:
    """The whole numbers of a tag that has one for each sample, or one for all."""
    found = tiff.tag_v2.get(tag, ())
    found = found if isinstance(found, tuple) else (found,)
    if len(found) >= max(bands):
        found = tuple(found[band - 1] for band in bands)
    return [int(value) for value in found if isinstance(value, int | float) and value % 1 == 0]


def _significant_bits(png: bytes) -> int:
    """What sBIT says of the first sample; 16 where there is none."""
    at = 8
    while at + 9 <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        if name == b"sBIT":
            return png[at + 8]
        if name == b"IDAT":
            break
        at += length + 12
    return 16


def _unscaled(values: np.ndarray, bits: int) -> tuple[int, int] | None:
    """The range of a PNG's 16-bit samples that were stored in their low bits alone.

    sBIT tells how many bits the samples had. The PNG specification (version 1.2, 9.1, "Sample
    depth scaling") has them scaled to the full depth all the same: linearly, rounded to the
    nearest, by repeating their bits, or by zeros below them, which is the same as repeating where
    all samples are below 2**bits. Such a file needs nothing but its high byte. One whose samples
    are all below 2**bits, and none of these, was written without scaling.
    """
    if not 0 < bits < 16 or values.max() >= 2**bits:
        return None
    top, samples = 2**bits - 1, np.arange(2**bits)
    original = samples >> (16 - bits)
    linear = (original * 65535 * 2 + top) // (2 * top)
    shifted = original << (16 - bits)
    scaled = any((way == samples)[values].all() for way in (linear, shifted))
    return None if scaled else (0, top)
