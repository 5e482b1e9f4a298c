"""How an image of a TIFF is stored, told by ranges of its file."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pipeline.errors import Code
from pipeline.images.errors import DecodeError
from pipeline.images.tiff import (
    LENGTH,
    ORIENTATION,
    PLANAR,
    ROWS_PER_STRIP,
    SAMPLES,
    STRIPS,
    TILE_LENGTH,
    TILE_WIDTH,
    TILES,
    WIDTH,
    number,
    numbers,
)
from pipeline.images.tiff_regions import SWAPPED, StoredImage

# numbers of 8 bytes, and places of directories, which Pillow does not know in such
LONG8, IFD8 = 16, 18
# of a directory and the values that it points to; two numbers for each tile are most of it
HEADER_BYTES = 16 * 2**20
# of a file, read at once where a directory is looked for
BLOCK_BYTES = 64 * 2**10
# of a directory; a BigTIFF can say any number
MOST_TAGS = 4096
# no file is as long, and file systems raise of such places in their own ways
MOST_PLACE = 2**62
# of a side, as rows have it; and of what is stored of a tile, as a TIFF of a region has it
MOST_PIXELS, MOST_BYTES = 2**31, 2**32
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0")
BIG_ENDIAN_BIG_TIFF = b"MM\0+"

# bytes of a file, from a place to another; fewer where it ends before
ReadRange = Callable[[int, int], bytes]


class _Directory(ImageFileDirectory_v2):
    _load_dispatch = {
        **ImageFileDirectory_v2._load_dispatch,
        IFD8: ImageFileDirectory_v2._load_dispatch[LONG8],
    }


class HeaderFile:
    """A file of which directories are read, by blocks, of which it keeps all.

    Who reads several clears `blocks` between them, since `HEADER_BYTES` are for one. It has what
    `ImageFileDirectory_v2.load` needs.
    """

    def __init__(self, read: ReadRange) -> None:
        self.read_range = read
        self.blocks: dict[int, bytes] = {}
        self.at = 0
        self.start = self.read(16)

    def tell(self) -> int:
        return self.at

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        # where the file ends, nobody asked yet; values beyond this are too many
        self.at = HEADER_BYTES if whence == io.SEEK_END else place
        return self.at

    def read(self, size: int) -> bytes:
        if not 0 <= self.at < MOST_PLACE:
            return b""
        first, last = self.at // BLOCK_BYTES, -(-(self.at + size) // BLOCK_BYTES)
        missing = [number for number in range(first, last) if number not in self.blocks]
        if missing:
            if (len(self.blocks) + len(missing)) * BLOCK_BYTES > HEADER_BYTES:
                raise _complaint(f"its directory has over {HEADER_BYTES} bytes")
            start, end = missing[0] * BLOCK_BYTES, (missing[-1] + 1) * BLOCK_BYTES
            data = self.read_range(start, end)
            for number in range(missing[0], missing[-1] + 1):
                at = number * BLOCK_BYTES - start
                self.blocks[number] = data[at : at + BLOCK_BYTES]
        blocks = [self.blocks[number] for number in range(first, last)]
        joined = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        at = self.at - first * BLOCK_BYTES
        found = joined[at : at + size]
        self.at += len(found)
        return found


def read_stored(read: ReadRange, directory: int = 0) -> StoredImage | None:
    """How an image of a TIFF is stored, without its pixels; None if it is no TIFF.

    Args:
        read: of its file.
        directory: its place in the file; 0 for the first one.

    Raises:
        DecodeError: the header is damaged, or of a kind that is not read.
        Exception: whatever `read` raises.
    """
    tags = read_directory(read, directory)
    return None if tags is None else stored_image(tags)


def stored_image(tags: ImageFileDirectory_v2) -> StoredImage:
    """How the image of a directory is stored.

    Raises:
        DecodeError: its tags are damaged.
    """
    width, height = number(tags, WIDTH, 0), number(tags, LENGTH, 0)
    is_tiled = TILE_WIDTH in tags
    if is_tiled:
        part_width, part_height = number(tags, TILE_WIDTH, 0), number(tags, TILE_LENGTH, 0)
    else:
        part_width, part_height = width, min(number(tags, ROWS_PER_STRIP, height), height)
    if min(width, height, part_width, part_height) < 1:
        raise _complaint(f"{width}x{height} in parts of {part_width}x{part_height}")
    if max(width, height) >= MOST_PIXELS:
        raise _complaint(f"{width}x{height} pixels")
    planes = number(tags, SAMPLES, 1) if number(tags, PLANAR, 1) == 2 else 1
    if planes < 1:
        raise _complaint(f"{planes} samples per pixel")
    shape = (planes, -(-height // part_height), -(-width // part_width))
    offsets, sizes = (_places(tags, pair, shape) for pair in zip(TILES, STRIPS, strict=True))
    if sizes.max() >= MOST_BYTES:
        raise _complaint(f"a strip or tile of {sizes.max()} bytes")
    orientation = number(tags, ORIENTATION, 1)
    if orientation in SWAPPED:
        width, height = height, width
    orientation = orientation if orientation in range(1, 9) else 1
    parts = (part_width, part_height, is_tiled, offsets, sizes)
    return StoredImage(width, height, orientation, *parts, tags)


def read_directory(read: ReadRange, directory: int = 0) -> ImageFileDirectory_v2 | None:
    """The tags of a directory, given its place, of the first one by default; None if it is no TIFF.

    Raises:
        DecodeError: they are damaged, or of a kind that is not read.
        Exception: whatever `read` raises.
    """
    file = HeaderFile(read)
    if not file.start.startswith((*SIGNATURES, BIG_ENDIAN_BIG_TIFF)):
        return None
    if file.start.startswith(BIG_ENDIAN_BIG_TIFF):
        message = "a big-endian BigTIFF is not supported; store it as little-endian"
        raise DecodeError(Code.UNSUPPORTED_MODE, message)
    return read_tags(file, directory)


def read_tags(file: HeaderFile, directory: int = 0) -> ImageFileDirectory_v2:
    """The tags of a directory, given its place; of the first one by default.

    Raises:
        DecodeError: they are damaged.
        Exception: whatever reading the file raises.
    """
    start = file.start
    try:
        tags = _Directory(start if start[2:3] == b"+" else start[:8])
        directory = directory or tags.next
        file.seek(directory)
        order: Literal["little", "big"] = "little" if tags.prefix == b"II" else "big"
        if int.from_bytes(file.read(8 if start[2:3] == b"+" else 2), order) > MOST_TAGS:
            raise _complaint(f"its directory has over {MOST_TAGS} tags")
        file.seek(directory)
        tags.load(file)  # type: ignore[arg-type]
    except (SyntaxError, struct.error, ValueError, OverflowError) as error:
        raise _complaint(f"its directory cannot be read ({error})") from error
    return tags


def _places(
    tags: ImageFileDirectory_v2, pair: tuple[int, int], shape: tuple[int, ...]
) -> np.ndarray:
    """Offsets, or sizes, under the tags of tiles or else of strips: int64 of that shape."""
    found = numbers(tags, pair[0] if pair[0] in tags else pair[1])
    if len(found) != shape[0] * shape[1] * shape[2]:
        raise _complaint(
            f"it lists {len(found)} strips or tiles, and its size needs "
            f"{shape[0] * shape[1] * shape[2]}"
        )
    if found and not 0 <= min(found) <= max(found) < MOST_PLACE:
        raise _complaint("a strip or tile has an impossible offset or size")
    return np.array(found, np.int64).reshape(shape)


def _complaint(message: str) -> DecodeError:
    return DecodeError(Code.CORRUPT, f"a TIFF that cannot be read in windows: {message}")
