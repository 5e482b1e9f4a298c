"""Image files built byte by byte, so that they can be wrong where a test wants it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

# types of a TIFF's values
BYTE, ASCII, SHORT, LONG, SSHORT, FLOAT, DOUBLE = 1, 2, 3, 4, 8, 11, 12
FORMAT = {1: "B", 2: "B", 3: "H", 4: "I", 8: "h", 11: "f", 12: "d"}
WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
OFFSETS, ORIENTATION, SAMPLES, ROWS, COUNTS = 273, 274, 277, 278, 279
TILE_OFFSETS, TILE_COUNTS = 324, 325

Tags = dict[int, tuple[int, Sequence[float] | bytes]]


@dataclass(frozen=True)
class Case:
    """A file and what must come of it.

    Args:
        name: of the file.
        data: its bytes.
        answer: pixels, [height, width, 3] uint8, or the code of the error.
        tolerance: how far a pixel may be off, for a lossy format.
    """

    name: str
    data: bytes
    answer: np.ndarray | str
    tolerance: int = 0


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    """Smooth, and different in each of the eight orientations: [height, width, 3] uint8."""
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    return (np.stack([x, y, (x + 2 * y) / 3], axis=2) * 200 + 20).astype(np.uint8)


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """What a person sees who holds the image as EXIF says: [height, width, 3]."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    left = orientation in (2, 3, 6, 7)
    up = orientation in (3, 4, 7, 8)
    return image[:: -1 if up else 1, :: -1 if left else 1]


def rgb(grey: np.ndarray) -> np.ndarray:
    """Grey values [height, width] as [height, width, 3] uint8."""
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def encoded(image: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    """The file that Pillow writes."""
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(
    width: int,
    height: int,
    depth: int,
    color: int,
    rows: bytes,
    interlace: int = 0,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A PNG of rows that begin with their filter, and of more chunks around the pixels."""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    body = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + body + after + chunk(b"IEND", b"")


def png_rows(image: np.ndarray) -> bytes:
    """The unfiltered rows of [height, width, ...] of whole bytes."""
    flat = image.reshape(len(image), -1)
    return b"".join(b"\0" + row.tobytes() for row in flat)


def tiff(
    tags: Tags,
    strips: Iterable[bytes] = (),
    order: str = "<",
    big: bool = False,
    following: int = 0,
    tiled: bool = False,
) -> bytes:
    """A TIFF: a directory, the values it points to, strips or tiles.

    Args:
        tags: tag to type and values; the places of the strips are added.
        strips: encoded.
        order: `<` or `>`.
        big: a BigTIFF.
        following: offset of the next directory.
        tiled: the strips are tiles.
    """
    strips = list(strips)
    offsets, counts = (TILE_OFFSETS, TILE_COUNTS) if tiled else (OFFSETS, COUNTS)
    sizes = [len(strip) for strip in strips]
    if strips:
        tags = tags | {offsets: (LONG, [0] * len(strips)), counts: (LONG, sizes)}
        start = len(_directory(tags, order, big, following))
        places = start + np.cumsum([0, *sizes[:-1]])
        tags = {**tags, offsets: (LONG, places.tolist())}
    return _directory(tags, order, big, following) + b"".join(strips)


def _directory(tags: Mapping[int, Any], order: str, big: bool, following: int) -> bytes:
    word, start = ("Q", 16) if big else ("I", 8)
    inline = struct.calcsize(word)
    head = b"II" if order == "<" else b"MM"
    head += struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    after = start + (8 if big else 2) + (4 + 2 * inline) * len(tags) + inline
    entries = struct.pack(order + ("Q" if big else "H"), len(tags))
    values = b""
    for tag, (kind, content) in sorted(tags.items()):
        raw = content
        if not isinstance(content, bytes):
            raw = struct.pack(f"{order}{len(content)}{FORMAT[kind]}", *content)
        place = raw.ljust(inline, b"\0")
        if len(raw) > inline:
            place = struct.pack(order + word, after + len(values))
            values += raw + b"\0" * (len(raw) % 2)
        count = len(raw) // struct.calcsize(FORMAT[kind])
        entries += struct.pack(order + "HH" + word, tag, kind, count) + place
    return head + entries + struct.pack(order + word, following) + values


def exif(orientation: int, **options: Any) -> bytes:
    """An EXIF block that says an orientation."""
    return tiff({ORIENTATION: (SHORT, [orientation])}, **options)


def gif(
    width: int,
    height: int,
    pixels: bytes,
    frame: tuple[int, int, int, int] | None = None,
    before: bytes = b"",
    palette: bytes = bytes([10, 20, 30, 200, 100, 50]),
    after: bytes = b";",
) -> bytes:
    """A GIF of two colours with one frame (left, top, width, height), as LZW data in blocks."""
    bits = (len(palette) // 3 - 1).bit_length() - 1
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80 | bits, 0, 0)
    place = struct.pack("<HHHHB", *(frame or (0, 0, width, height)), 0)
    return head + palette + before + b"," + place + pixels + after


def lzw(indices: Iterable[int]) -> bytes:
    """LZW data of indices 0 to 3, without compression: the table is cleared before it grows."""
    codes = []
    for number, index in enumerate(indices):
        codes += [4, index] if number % 2 == 0 else [index]
    bits = "".join(f"{code:03b}"[::-1] for code in [*codes, 5])
    packed = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    blocks = [packed[at : at + 255] for at in range(0, len(packed), 255)]
    return b"\2" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP of chunks."""
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        for name, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def segments(jpeg: bytes) -> list[int]:
    """Where each segment before the first scan's data starts, and where that data does."""
    starts, at = [], 2
    while jpeg[at + 1] != 0xDA:
        starts.append(at)
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return [*starts, at, at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")]


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with a segment put first."""
    return jpeg[:2] + segment(marker, body) + jpeg[2:]
