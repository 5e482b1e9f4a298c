"""TIFF: what of it is read by Pillow, what by its libtiff, and what is refused."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from itertools import product

from PIL import ImagePalette
from PIL.ImageFile import _Tile
from PIL.TiffImagePlugin import COMPRESSION_INFO, ImageFileDirectory_v2, TiffImageFile

from pipeline.errors import Code
from pipeline.images import jpeg2000
from pipeline.images.errors import DecodeError
from pipeline.images.libtiff import can_decode

SUBFILE, SUB_DIRECTORIES, WIDTH, LENGTH = 254, 330, 256, 257
BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR = 258, 259, 262, 277, 284
ORIENTATION, ROWS_PER_STRIP, COLOR_MAP, TILE_WIDTH, TILE_LENGTH = 274, 278, 320, 322, 323
INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING = 332, 338, 339, 530
# offsets and lengths
STRIPS, TILES = (273, 279), (324, 325)
NONE, DEFLATE = 1, 8
GREY, RGB, SEPARATED, YCBCR, LAB = 1, 2, 5, 6, 8
NAMES = {
    0: "grey with white as 0",
    GREY: "grey",
    RGB: "RGB",
    3: "palette",
    SEPARATED: "CMYK",
    YCBCR: "YCbCr",
    LAB: "CIELab",
}
# kinds of subfiles: a reduced image, also one of several pages; not the mask of one
REDUCED = (1, 3)
PREMULTIPLIED = 1
MOST_SAMPLES = 6  # of a pixel, in Pillow
ADVICE = (
    "store plain grey or RGB of 8 or 16 unsigned bits, little-endian, compressed with Deflate or "
    "LZW or not at all"
)


class TiffFile(TiffImageFile):
    """Pillow's reader, kept from what it would read wrongly."""

    def _setup(self) -> None:
        tags = self.tag_v2
        refuse(tags)
        if MOST_SAMPLES < number(tags, SAMPLES, 1) < 2**16:
            reason = f"more than {MOST_SAMPLES} samples per pixel are supported only with --bands"
            raise unsupported(tags, reason)
        what = _description(tags)
        if number(tags, PLANAR, 1) == 2:
            _settle_planes(tags)
        compression = number(tags, COMPRESSION, NONE)
        is_jpeg2000 = compression in jpeg2000.KINDS
        as_deflate = is_jpeg2000 or (compression == NONE and _needs_libtiff(tags))
        if as_deflate:
            # Pillow gives libtiff whatever is compressed; libtiff goes by the file itself
            tags[COMPRESSION] = DEFLATE
        try:
            super()._setup()
        except SyntaxError as error:
            if isinstance(error.__cause__, KeyError):  # in none of Pillow's tables
                raise unsupported(
                    what, "this combination of samples and bits is not supported"
                ) from error
            raise
        except KeyError as error:
            raise SyntaxError(f"tag {error} is missing") from error
        finally:
            if as_deflate:
                tags[COMPRESSION] = compression
        if is_jpeg2000:
            self.use_load_libtiff = False
            self.tile = list(_jpeg2000_tiles(tags))
        if self.palette is not None and max(tags[COLOR_MAP]) < 256:
            # libtiff's rule for writers that stored 8 of the 16 bits
            self.palette = ImagePalette.raw("RGB;L", tags[COLOR_MAP])


def refuse(tags: ImageFileDirectory_v2) -> None:
    """Raise for what Pillow would read, but not as it is meant, or complain of as damage."""
    if number(tags, SUBFILE, 0) in REDUCED and SUB_DIRECTORIES in tags:
        reason = "it is only the preview of an image in a subdirectory, as in a camera's raw file"
        raise unsupported(tags, reason)
    compression = number(tags, COMPRESSION, NONE)
    if compression in jpeg2000.KINDS:
        _check_jpeg2000(tags)
    elif compression not in COMPRESSION_INFO or (
        compression != NONE and not can_decode(compression)
    ):
        name = COMPRESSION_INFO.get(compression, "unknown")
        raise unsupported(tags, f"there is no decoder for compression {compression} ({name})")
    formats = numbers(tags, SAMPLE_FORMAT)
    if 2 in formats:
        raise unsupported(tags, "signed samples have no defined range")
    if 3 in formats:
        raise unsupported(tags, "floating-point samples have no defined range")
    if number(tags, PHOTOMETRIC, 0) == SEPARATED and number(tags, INK_SET, 1) == 2:
        raise unsupported(tags, "its inks are not CMYK")


def _check_jpeg2000(tags: ImageFileDirectory_v2) -> None:
    if not jpeg2000.can_decode():
        raise unsupported(tags, "this build of Pillow cannot read JPEG 2000")
    samples, photometric = number(tags, SAMPLES, 1), number(tags, PHOTOMETRIC, 0)
    is_aperio = number(tags, COMPRESSION, NONE) == jpeg2000.APERIO_YCBCR
    kinds = {(1, GREY), (3, RGB), (3, YCBCR if is_aperio else RGB)}
    is_8_bits = set(numbers(tags, BITS_PER_SAMPLE)) == {8}
    if (samples, photometric) not in kinds or not is_8_bits or number(tags, PLANAR, 1) == 2:
        raise unsupported(tags, "JPEG 2000 is supported only as grey or RGB of 8 bits, not planar")


def _jpeg2000_tiles(tags: ImageFileDirectory_v2) -> Iterator[_Tile]:
    """The strips or tiles, for Pillow."""
    width, height = number(tags, WIDTH, 0), number(tags, LENGTH, 0)
    wide, high = number(tags, TILE_WIDTH, width), number(tags, TILE_LENGTH, 0)
    high = high or min(height, number(tags, ROWS_PER_STRIP, height))
    if min(wide, high) < 1:
        raise ValueError("Invalid tile dimensions")
    offsets, sizes = TILES if TILES[0] in tags else STRIPS
    is_ycbcr = number(tags, COMPRESSION, NONE) == jpeg2000.APERIO_YCBCR
    is_ycbcr &= number(tags, SAMPLES, 1) == 3
    places = product(range(0, height, high), range(0, width, wide))
    parts = zip(numbers(tags, offsets), numbers(tags, sizes), strict=True)
    for (y, x), (offset, size) in zip(places, parts, strict=False):
        extents = (x, y, min(x + wide, width), min(y + high, height))
        yield _Tile(jpeg2000.CODEC, extents, offset, (size, wide, high, is_ycbcr))


def _settle_planes(tags: ImageFileDirectory_v2) -> None:
    """Make Pillow see the planes of the colours alone, where the others change nothing."""
    samples, photometric = number(tags, SAMPLES, 1), number(tags, PHOTOMETRIC, 0)
    if samples == 1:  # one plane is no planes; Pillow would forget that white is zero
        tags[PLANAR] = 1
        return
    colors = {RGB: 3, SEPARATED: 4, YCBCR: 3, LAB: 3}.get(photometric, 1)
    beyond, extra = samples - colors, numbers(tags, EXTRA_SAMPLES)
    if PREMULTIPLIED in extra and (photometric, beyond) != (RGB, 1):
        raise unsupported(tags, "planar images with premultiplied alpha are not supported")
    if photometric == LAB:  # a and b would come shifted
        raise unsupported(tags, "planar CIELab is not supported")
    if photometric == YCBCR and numbers(tags, SUBSAMPLING) != (1, 1):
        raise unsupported(tags, "planar YCbCr with subsampling is not supported")
    unnamed_alpha = photometric == RGB and beyond == 1 and not extra
    if PREMULTIPLIED not in extra and beyond > 0 and (len(extra) == beyond or unnamed_alpha):
        bits = numbers(tags, BITS_PER_SAMPLE)
        tags[BITS_PER_SAMPLE] = (bits * samples if len(bits) == 1 else bits)[:colors]
        tags[SAMPLES] = colors
        if extra:
            del tags[EXTRA_SAMPLES]


def _needs_libtiff(tags: ImageFileDirectory_v2) -> bool:
    """Whether Pillow's own way for uncompressed samples would go wrong."""
    tiles_as_strips = TILE_WIDTH in tags and TILES[0] not in tags and ROWS_PER_STRIP not in tags
    return number(tags, PLANAR, 1) == 2 or tiles_as_strips or _is_subsampled(tags)


def _is_subsampled(tags: ImageFileDirectory_v2) -> bool:
    """Whether several pixels share their colour."""
    if number(tags, PHOTOMETRIC, 0) != YCBCR:
        return False
    if given := numbers(tags, SUBSAMPLING):
        return given != (1, 1)
    # left out it means 2 by 2, but there are files of all samples that lack it
    stored = sum(numbers(tags, STRIPS[1]) + numbers(tags, TILES[1]))
    return stored < 3 * number(tags, WIDTH, 0) * number(tags, LENGTH, 0)


def check_layout(image: TiffImageFile, max_pixels: int) -> None:
    """Refuse tiles that are larger than an image may be, and strips that leave some of it out."""
    tags = image.tag_v2
    by_libtiff = image.tile[0].codec_name == "libtiff"
    width, length = tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0)
    tiled = TILES[0] in tags or by_libtiff  # which takes tiles under the tags of strips, too
    if tiled and isinstance(width, int) and width * length > max_pixels:
        message = f"a tile of {width}x{length} is over max_pixels, which is {max_pixels}"
        raise DecodeError(Code.TOO_MANY_PIXELS, message)
    if by_libtiff:  # it looks for itself, also behind a damaged tag, which Pillow reads up to
        if (_stored(image) & {TILE_WIDTH, TILE_LENGTH}) - set(tags):
            raise DecodeError(Code.CORRUPT, "its directory is damaged before the size of its tiles")
        return
    places = [tile.extents or (0, 0, 0, 0) for tile in image.tile]
    covered = sum((right - left) * (bottom - top) for left, top, right, bottom in places)
    planes = len(image.getbands()) if tags.get(PLANAR, 1) == 2 else 1
    if covered < image.width * image.height * planes:
        raise DecodeError(Code.CORRUPT, "the strips or tiles do not cover the image")


def _stored(image: TiffImageFile) -> set[int]:
    """The tags of the directory, whatever their values."""
    assert isinstance(image.fp, io.BytesIO)
    file, order = image.fp.getvalue(), "<" if image.tag_v2.prefix == b"II" else ">"
    place, number, entry = ("Q", "Q", 20) if file[2:3] == b"+" else ("I", "H", 12)
    (at,) = struct.unpack_from(order + place, file, struct.calcsize(place))
    (count,) = struct.unpack_from(order + number, file, at)
    at += struct.calcsize(number)
    places = range(at, min(at + count * entry, len(file) - 1), entry)
    return {struct.unpack_from(order + "H", file, tag)[0] for tag in places}


def _description(tags: ImageFileDirectory_v2) -> str:
    samples, photometric = number(tags, SAMPLES, 1), number(tags, PHOTOMETRIC, 0)
    bits = "/".join(map(str, dict.fromkeys(numbers(tags, BITS_PER_SAMPLE) or (1,))))
    kind = NAMES.get(photometric, f"photometric {photometric}")
    order = ", big-endian" if tags.prefix == b"MM" else ""
    planes = ", planar" if number(tags, PLANAR, 1) == 2 else ""
    return f"a TIFF of {kind}, samples per pixel: {samples}, bits per sample: {bits}{order}{planes}"


def unsupported(what: ImageFileDirectory_v2 | str, reason: str) -> DecodeError:
    what = what if isinstance(what, str) else _description(what)
    return DecodeError(Code.UNSUPPORTED_MODE, f"{what}: {reason}; {ADVICE}")


def numbers(tags: ImageFileDirectory_v2, tag: int) -> tuple[int, ...]:
    """The whole numbers of a tag; a hostile file has values of any type."""
    values = tags.get(tag, ())
    values = values if isinstance(values, tuple) else (values,)
    return tuple(value for value in values if isinstance(value, int))


def number(tags: ImageFileDirectory_v2, tag: int, default: int) -> int:
    return next(iter(numbers(tags, tag)), default)
