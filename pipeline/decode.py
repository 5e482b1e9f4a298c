"""Encoded bytes to upright RGB pixels. Pillow is the reference; nothing else touches the bytes."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
ORIENTATION = 0x0112
BITS_PER_SAMPLE = 258

Image.init()  # registers all formats; Image.open with `formats` fails on one not yet loaded
# The size is checked against max_pixels here, for every image and without a mere warning.
Image.MAX_IMAGE_PIXELS = None
# A damaged EXIF block says nothing about the pixels, and a million of them would fill the log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class DecodeError(Exception):
    """An image that cannot be decoded.

    Attributes:
        code: `empty`, `not_an_image`, `too_many_pixels`, `truncated`, `corrupt` or
            `unsupported_mode`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Header:
    """An image of which only the header was read.

    Attributes:
        image: Pillow's lazy image.
        width: in pixels, upright as far as the header tells (a PNG's EXIF may come last).
        height: likewise.
    """

    image: Image.Image
    width: int
    height: int


def read_header(data: bytes | memoryview, max_pixels: int) -> Header:
    """Size and format of an encoded image, before memory is spent on its pixels.

    Raises:
        DecodeError: no image of a known format, or more than `max_pixels` pixels.
    """
    if not len(data):
        raise DecodeError("empty", "the object has no bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        start = bytes(data[:16])
        raise DecodeError("not_an_image", f"no known image format; begins {start!r}") from error
    except Exception as error:  # decoders raise what they like at hostile bytes
        raise _failure(error) from error
    width, height = image.size
    if width * height > max_pixels:
        message = f"{width}x{height} is over max_pixels, which is {max_pixels}"
        raise DecodeError("too_many_pixels", message)
    # Pillow gives a TIFF's size as a person sees it; a PNG's EXIF may come after the pixels, and
    # asking too early would make Pillow remember that there is none
    known = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
    if known and _orientation(image) >= 5:
        width, height = height, width
    return Header(image, width, height)


def decode(header: Header) -> np.ndarray:
    """The pixels as a person sees them: [height, width, 3] RGB uint8, EXIF orientation applied.

    Alpha is dropped and palettes are resolved as by Pillow's `convert("RGB")`; 16-bit grey is
    scaled by its high byte, as Pillow does for 16-bit colour; of an animation, the first frame.

    Raises:
        DecodeError: truncated or corrupt data, or a mode without a meaning in RGB.
    """
    image = header.image
    try:
        image.load()
        if image.mode.startswith("I;16"):
            image = _scaled_to_8_bits(image)
        elif image.mode in ("I", "F"):
            message = f"mode {image.mode} has no defined range; store 8 or 16 bits a sample"
            raise DecodeError("unsupported_mode", message)
        orientation = _orientation(header.image)
        rgb = image.convert("RGB")
        if orientation in _TRANSPOSE:
            rgb = rgb.transpose(_TRANSPOSE[orientation])
        return np.asarray(rgb)
    except DecodeError:
        raise
    except Exception as error:  # decoders raise what they like at hostile bytes
        raise _failure(error) from error


# from the EXIF standard, tag Orientation; the same operations as ImageOps.exif_transpose, which
# also rewrites the EXIF block and fails on a damaged one
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 where there is none, or junk."""
    try:
        # the base class's method, for PNG's own loads the pixels and so may fail for other reasons
        value = Image.Image.getexif(image).get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return 1
    return value if value in _TRANSPOSE else 1


def _scaled_to_8_bits(image: Image.Image) -> Image.Image:
    bits = 16
    if image.format == "TIFF":
        bits = image.tag_v2.get(BITS_PER_SAMPLE, (16,))[0]  # type: ignore[attr-defined]
    values = np.asarray(image).astype(np.uint16) >> (bits - 8)
    return Image.fromarray(values.astype(np.uint8))


def _failure(error: Exception) -> DecodeError:
    message = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    lowered = message.lower()
    if isinstance(error, MemoryError):
        return DecodeError("out_of_memory", message)
    short = isinstance(error, EOFError) or any(
        word in lowered for word in ("truncated", "unexpected end", "not enough")
    )
    return DecodeError("truncated" if short else "corrupt", message)
