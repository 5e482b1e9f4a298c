"""Pillow's readers of image files: which one reads a file, and why one refused it."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import struct
import warnings

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from pipeline.errors import Code
from pipeline.images.errors import DecodeError
from pipeline.images.heif import AVIF, HEIC, AvifFile, HeicFile, is_cut
from pipeline.images.jpeg import picture_alone, unreadable
from pipeline.images.libtiff import silence
from pipeline.images.tiff import STRIPS, TILES, TiffFile

# A damaged EXIF block says nothing about the pixels, and a million of them would fill the log.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)
silence()


class EncodedFile(io.BytesIO):
    """The encoded bytes; knows whether more was asked of them than there is."""

    exhausted = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is not None and len(data) < size:
            self.exhausted = True
        return data


class _Png(PngImageFile):
    def load_end(self) -> None:
        with contextlib.suppress(Exception):  # nothing behind the pixels can harm them
            super().load_end()


# What a file begins with, and what reads it. Not `Image.open`, which hides why a reader refused.
READERS: list[tuple[re.Pattern[bytes], type[ImageFile]]] = [
    (re.compile(signature, re.DOTALL), reader)
    for signature, reader in (
        (rb"\xff\xd8\xff", JpegImageFile),
        (rb"\x89PNG\r\n\x1a\n", _Png),
        (rb"RIFF.{4}WEBP", WebPImageFile),
        (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", BmpImageFile),
        (rb"II[*+]\0|MM\0\*|II\0\*|MM\*\0", TiffFile),
        (rb"GIF8[79]a", GifImageFile),
        (AVIF, AvifFile),
        (HEIC, HeicFile),
    )
]
# of a file, that tell what reads it
SIGNATURE_BYTES = 64


def is_image(start: bytes) -> bool:
    """Whether a file that starts with these `SIGNATURE_BYTES` is of a known format."""
    return any(signature.match(start) for signature, _ in READERS)


def open_image(source: EncodedFile) -> ImageFile:
    """Pillow's lazy image.

    Raises:
        DecodeError: no known format, or a damaged header.
    """
    start = source.getvalue()[:SIGNATURE_BYTES]
    if start.startswith(b"MM\0+"):
        message = "a big-endian BigTIFF is not supported; store it as little-endian"
        raise DecodeError(Code.UNSUPPORTED_MODE, message)
    readers = [reader for signature, reader in READERS if signature.match(start)]
    if not readers:
        raise DecodeError(
            Code.NOT_AN_IMAGE, f"not a known image format; it begins with {start[:16]!r}"
        )
    reader = readers[0]
    try:
        return _opened(reader, source)
    except DecodeError as error:
        # what Pillow stumbled over may be beside the picture
        if reader is _Png and error.code != Code.TOO_MANY_PIXELS:
            picture = _critical_chunks(source.getvalue())
        elif reader is JpegImageFile and error.code == Code.CORRUPT:
            picture = picture_alone(source.getvalue())
        else:
            raise
    return _opened(reader, EncodedFile(picture))


def _opened(reader: type[ImageFile], source: EncodedFile) -> ImageFile:
    try:
        image = reader(source)
        if not image.tile and reader is not WebPImageFile:
            raise SyntaxError("there are no pixels")
    except DecodeError:
        raise
    except Exception as error:  # decoders raise what they like at hostile bytes
        raise failure(error, source) from error
    return image


def _critical_chunks(png: bytes) -> bytes:
    """The file without its texts, profile, animation: Pillow refuses a damaged or a large one."""
    kept, at = [png[:8]], 8
    while at + 8 <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        if name[:1].isupper() or name in (b"eXIf", b"sBIT"):
            kept.append(png[at : at + length + 12])
        at += length + 12
    return b"".join(kept)


def failure(error: Exception, source: EncodedFile, image: ImageFile | None = None) -> DecodeError:
    """What went wrong while the header was read, or the pixels of `image`."""
    message = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    lowered = message.lower()
    if isinstance(error, MemoryError):
        return DecodeError(Code.OUT_OF_MEMORY, message)
    bomb = isinstance(error, Image.DecompressionBombError)
    if bomb or "exceeds the maximum image size" in message:  # libheif's words
        return DecodeError(Code.TOO_MANY_PIXELS, message)
    jpeg = source.getvalue() if source.getvalue().startswith(b"\xff\xd8") else b""
    if kind := unreadable(jpeg):
        message = f"{kind} is not supported; store a baseline or progressive JPEG"
        return DecodeError(Code.UNSUPPORTED_MODE, message)
    if any(word in message for word in ("cannot handle", "Unsupported")):
        return DecodeError(Code.UNSUPPORTED_MODE, message)
    short = image is None and source.exhausted
    if short or _cut_short(source, image) or "truncated" in lowered or "not enough" in lowered:
        return DecodeError(Code.TRUNCATED, message)
    return DecodeError(Code.CORRUPT, message)


def _cut_short(source: EncodedFile, image: ImageFile | None) -> bool:
    """Whether the file says that it has more bytes than it has."""
    data = source.getvalue()
    if data[:4] == b"RIFF":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if data[4:8] == b"ftyp":
        return is_cut(data)
    if isinstance(image, TiffFile):
        for offsets, lengths in (STRIPS, TILES):
            starts, sizes = image.tag_v2.get(offsets, ()), image.tag_v2.get(lengths, ())
            with contextlib.suppress(TypeError):  # tags of any type
                if any(a + b > len(data) for a, b in zip(starts, sizes, strict=False)):
                    return True
    return False
