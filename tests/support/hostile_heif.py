"""AVIF and HEIC files: sound ones of every kind, and damaged ones."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

from tests.support.hostile_files import Case, encoded, exif, picture, upright

KINDS = ("avif", "heic")
NEAR = 12  # what the colours of smooth pictures lose


@functools.cache
def _written(kind: str, height: int, width: int, mode: str, orientation: int) -> bytes:
    image = Image.fromarray(picture(height, width)).convert(mode)
    return heif(kind, image, exif=exif(orientation) if orientation else None)


def heif(kind: str, image: Image.Image, **options: Any) -> bytes:
    """A file of the best quality; an orientation in its EXIF becomes a turn of the picture."""
    options = {name: value for name, value in options.items() if value is not None}
    if kind == "avif":
        return encoded(image, "AVIF", quality=100, subsampling="4:4:4", max_threads=1, **options)
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=100, chroma=444, **options)
    return buffer.getvalue()


def small(kind: str, mode: str = "RGB", orientation: int = 0) -> bytes:
    """A picture of 60x40 pixels, or what it is before it is turned upright."""
    return _written(kind, 40, 60, mode, orientation)


def of_16_bits() -> bytes:
    """A HEIC of ten bits a sample."""
    values = picture().astype(np.uint16) * 257
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (60, 40), values.tobytes()).save(
        buffer, quality=100, chroma=444
    )
    return buffer.getvalue()


def with_size(data: bytes, width: int, height: int) -> bytes:
    """The file with another size in its box of sizes than that of the picture."""
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


def with_brands(data: bytes, *brands: bytes) -> bytes:
    """The file with these brands in the place of as many of its own."""
    places = [8, *range(16, 16 + 4 * (len(brands) - 1), 4)]
    for at, brand in zip(places, brands, strict=True):
        data = data[:at] + brand + data[at + 4 :]
    return data


def cases() -> Iterator[Case]:
    """Each kind in each mode and orientation, cut, and with wrong numbers."""
    image = picture()
    grey = np.asarray(Image.fromarray(image).convert("L").convert("RGB"))
    for kind in KINDS:
        whole = small(kind)
        for mode in ("RGB", "RGBA"):
            yield Case(f"{mode}.{kind}", small(kind, mode), image, NEAR)
        for mode in ("L", "LA"):
            yield Case(f"{mode}.{kind}", small(kind, mode), grey, NEAR)
        for n in range(1, 9):
            data = small(kind, orientation=n)
            yield Case(f"turned-{n}.{kind}", data, upright(image, n), NEAR)
        for at in (1, 4, 7, 8, 11):
            yield Case(f"cut-{at}.{kind}", whole[:at], "not_an_image")
        cuts = (20, 40, 60, 100, 150, 200, 250, 300, len(whole) // 2, len(whole) - 20)
        for at in (*cuts, len(whole) - 1):
            yield Case(f"cut-{at}.{kind}", whole[:at], "truncated")
        yield Case(f"junk-behind.{kind}", whole + b"junk" * 9, image, NEAR)
        # of whole blocks, for others have their size in a box of what is cut off them, too
        huge = with_size(_written(kind, 64, 64, "RGB", 0), 16000, 16000)
        yield Case(f"16000x16000.{kind}", huge, "too_many_pixels")
        yield Case(f"no-size.{kind}", with_size(whole, 0, 0), "corrupt")
    yield Case("of-16-bits.heic", of_16_bits(), image, NEAR)
    beyond = with_size(small("heic"), 65535, 65535)
    yield Case("65535x65535.heic", beyond, "too_many_pixels")
    yield Case("other-size.heic", with_size(small("heic"), 30, 20), "corrupt")
    mif1 = with_brands(small("heic"), b"mif1", b"heic")
    yield Case("mif1.heic", mif1, image, NEAR)
    yield Case("mif1.avif", with_brands(small("avif"), b"mif1", b"avif"), image, NEAR)
