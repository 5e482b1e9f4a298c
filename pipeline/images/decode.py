"""Encoded bytes to upright RGB pixels. Pillow is the reference; nothing else touches the bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from pipeline.errors import Code
from pipeline.images.bands import BandsFile, open_bands
from pipeline.images.depth import Samples, depth, to_8_bits
from pipeline.images.errors import DecodeError
from pipeline.images.formats import EncodedFile, failure, open_image
from pipeline.images.tiff import ORIENTATION, TiffFile, check_layout, number
from pipeline.images.truncated_jpeg import recovered

__all__ = ["DecodeError", "Header", "Samples", "decode", "read_header"]

AS_DECLARED = Samples()


@dataclass
class Header:
    """An image of which only the header was read.

    Attributes:
        image: Pillow's lazy image.
        width: in pixels, upright as far as the header tells (a PNG's EXIF may come last).
        height: likewise.
        max_pixels: what it was held to.
        samples: what its samples shall become.
        is_deep: whether they have more than 8 bits.
        orientation: of a TIFF, which Pillow forgets once it has turned the pixels.
        recovered_share: of the pixels, what the file holds; less than 1 only of a JPEG that is cut
            short, and known once it is decoded.
    """

    image: ImageFile
    width: int
    height: int
    max_pixels: int
    samples: Samples
    is_deep: bool
    orientation: int = 1
    recovered_share: float = 1.0


def read_header(
    data: bytes | memoryview, max_pixels: int, samples: Samples = AS_DECLARED
) -> Header:
    """Size and format of an encoded image, before memory is spent on its pixels.

    Raises:
        DecodeError: no image of a known format, more than `max_pixels` pixels, or a TIFF without
            the bands that `samples` asks for.
    """
    if not len(data):
        raise DecodeError(Code.EMPTY, "the object has no bytes")
    # Pillow refuses what has over twice this; some readers allocate before the size is known here
    Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)
    source = EncodedFile(data)
    chosen = open_bands(source.getvalue(), samples.bands) if samples.bands else None
    image = chosen or open_image(source)
    width, height = image.size
    if width * height > max_pixels:
        message = f"{width}x{height} is over max_pixels, which is {max_pixels}"
        if isinstance(image, TiffFile):
            message += "; with --tile, a TIFF that is a file of its own is read in windows"
        raise DecodeError(Code.TOO_MANY_PIXELS, message)
    if isinstance(image, TiffFile) and not chosen:
        try:
            check_layout(image, max_pixels)
        except (TypeError, ValueError) as error:  # tags of any type
            raise failure(error, source) from error
    if image.mode == "P" and image.palette is None:
        raise DecodeError(Code.CORRUPT, "there is no palette")
    # Pillow gives a TIFF's size as a person sees it; a PNG's EXIF may come after the pixels, and
    # asking too early would make Pillow remember that there is none
    known = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
    if known and _orientation(image) >= 5:
        width, height = height, width
    assert isinstance(image.fp, EncodedFile)
    is_deep = depth(image, image.fp.getvalue()) > 8
    orientation = number(image.tag_v2, ORIENTATION, 1) if isinstance(image, TiffFile) else 1
    return Header(image, width, height, max_pixels, samples, is_deep, orientation)


def decode(header: Header, accept_truncated: float | None = None) -> np.ndarray:
    """The pixels as a person sees them: [height, width, 3] RGB uint8, EXIF orientation applied.

    Alpha is dropped and palettes are resolved as by Pillow's `convert("RGB")`; of an animation,
    the first frame. Grey and chosen bands of more than 8 bits are scaled by `to_8_bits`; Pillow
    gives other colours of 16 bits by their high byte alone.

    Args:
        header: of the image; is told the share of the pixels that were there.
        accept_truncated: the share that will do, of a JPEG that is cut short; 1 where it is None.
            What is missing is as libjpeg fills it, mostly grey.

    Raises:
        DecodeError: truncated or corrupt data, or a mode without a meaning in RGB.
    """
    source = header.image.fp
    assert isinstance(source, EncodedFile)
    wanted, encoded = header.samples.depth_range, source.getvalue()
    try:
        image: Image.Image
        if isinstance(header.image, BandsFile):
            bands = header.image.bands
            values = header.image.values(header.max_pixels)
            values = to_8_bits(values, header.image, encoded, wanted, bands)
            image = Image.fromarray(values.squeeze(axis=2) if len(bands) == 1 else values)
        else:
            image = _loaded(header, source, accept_truncated or 1.0)
        deep = _deep_grey(image, encoded)
        if deep is not None:
            image = Image.fromarray(to_8_bits(deep, header.image, encoded, wanted))
        elif image.mode in ("I", "F"):
            message = f"mode {image.mode} has no defined range; store 8 or 16 bits, unsigned"
            raise DecodeError(Code.UNSUPPORTED_MODE, message)
        elif image.mode == "La":
            image = image.convert("LA")
        orientation = _orientation(header.image)
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        if orientation in _TRANSPOSE:
            rgb = rgb.transpose(_TRANSPOSE[orientation])
        return np.asarray(rgb)
    except DecodeError:
        raise
    except Exception as error:  # decoders raise what they like at hostile bytes
        raise failure(error, source, header.image) from error


def _loaded(header: Header, source: EncodedFile, least: float) -> Image.Image:
    """The pixels as they are stored, of a JPEG also where it is cut short and enough is there."""
    if _is_deep_grey_alpha(header.image, source.getvalue()):
        # Pillow drops the low bytes of these, but none of RGBA, whose pixels have as many
        header.image.tile = [tile._replace(args="RGBA") for tile in header.image.tile]
    try:
        header.image.load()
    except OSError as error:
        reason = failure(error, source, header.image)
        if header.image.format != "JPEG" or reason.code != Code.TRUNCATED:
            raise reason from error
        found = recovered(source.getvalue())
        if not found:
            raise reason from error
        image, share = found
        if share < least:
            message = f"{reason}; {share:.1%} of its rows are there"
            raise DecodeError(reason.code, message) from error
        header.recovered_share = share
        return image
    return header.image


def _is_deep_grey_alpha(image: Image.Image, encoded: bytes) -> bool:
    """Whether it is a PNG of 16 bits a sample and colour type 4."""
    return image.format == "PNG" and encoded[24:26] == b"\x10\x04"


def _deep_grey(image: Image.Image, encoded: bytes) -> np.ndarray | None:
    """[height, width] uint16, samples of grey of more than 8 bits; None if it has others."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if _is_deep_grey_alpha(image, encoded):
        return np.asarray(image).view(">u2")[..., 0].astype(np.uint16)
    return None


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
    return value if isinstance(value, int) and value in _TRANSPOSE else 1
