"""PNG files: all layouts, cut everywhere, bombs, damage, animations."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.support.hostile_files import Case, chunk, encoded, picture, png, png_rows, rgb

GREY, COLOR, PALETTE, GREY_ALPHA, COLOR_ALPHA = 0, 2, 3, 4, 6
# first column, first row, and distances of the seven passes of an interlaced image
PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
RAMP = (np.arange(100).reshape(10, 10) * 2).astype(np.uint8)
ZEROS = 2**31


def zeros(count: int) -> bytes:
    """A zlib stream of so many zeros, a multiple of 16 MiB, with a wrong checksum."""
    packer = zlib.compressobj(9)
    first = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    more = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + more * (count // 2**24 - 1) + b"\3\0" + b"\0\0\0\1"


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Values of fewer than 8 bits [height, width] in whole bytes a row."""
    single = np.unpackbits(values.astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - bits :]
    return np.packbits(single.reshape(len(values), -1), axis=1)


def interlaced(image: np.ndarray) -> bytes:
    """The rows of the seven passes."""
    passes = [image[top::down, left::right] for left, top, right, down in PASSES]
    return b"".join(png_rows(part) for part in passes if part.size)


def layouts() -> Iterator[Case]:
    """Depths and kinds of samples."""
    table = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    for bits in (1, 2, 4, 8):
        values = np.add.outer(np.arange(9), np.arange(13)) % 2**bits
        rows = png_rows(packed(values, bits))
        grey = rgb(values * (255 // (2**bits - 1)))
        yield Case(f"grey{bits}.png", png(13, 9, bits, GREY, rows), grey)
        palette = chunk(b"PLTE", table[: 2**bits].tobytes())
        data = png(13, 9, bits, PALETTE, rows, before=palette)
        yield Case(f"palette{bits}.png", data, table[values])
        data = png(13, 9, bits, PALETTE, rows, before=palette + chunk(b"tRNS", b"\0\x80"))
        yield Case(f"palette{bits}-clear.png", data, table[values])
    image = picture()
    wide = (image.astype(int) * 256 + 100).astype(">u2")
    clear = rgb(np.full((40, 60), 7))[:, :, :1]
    yield Case("grey16.png", png(60, 40, 16, GREY, png_rows(wide[:, :, 0])), rgb(image[:, :, 0]))
    yield Case("color.png", png(60, 40, 8, COLOR, png_rows(image)), image)
    yield Case("color16.png", png(60, 40, 16, COLOR, png_rows(wide)), image)
    both = np.dstack([image[:, :, :1], clear])
    yield Case("grey-alpha.png", png(60, 40, 8, GREY_ALPHA, png_rows(both)), rgb(image[:, :, 0]))
    both = np.dstack([wide[:, :, :1], clear])
    data = png(60, 40, 16, GREY_ALPHA, png_rows(both.astype(">u2")))
    yield Case("grey-alpha16.png", data, rgb(image[:, :, 0]))
    both = np.dstack([image, clear])
    yield Case("color-alpha.png", png(60, 40, 8, COLOR_ALPHA, png_rows(both)), image)
    both = np.dstack([wide, clear]).astype(">u2")
    yield Case("color-alpha16.png", png(60, 40, 16, COLOR_ALPHA, png_rows(both)), image)
    key = chunk(b"tRNS", b"\0\x14\0\x14\0\x0d")
    yield Case("color-key.png", png(60, 40, 8, COLOR, png_rows(image), before=key), image)
    for side in (1, 2, 3, 8, 9, 60):
        part = picture(side, side)
        data = png(side, side, 8, COLOR, interlaced(part), interlace=1)
        yield Case(f"interlaced{side}.png", data, part)
    data = png(60, 40, 16, GREY, interlaced(wide[:, :, 0]), interlace=1)
    yield Case("interlaced-grey16.png", data, rgb(image[:, :, 0]))


def cuts() -> Iterator[Case]:
    """Cut inside each part of each chunk; what lacks no pixel is whole."""
    table = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    before = chunk(b"PLTE", table.tobytes()) + chunk(b"tEXt", b"a\0text")
    data = png(10, 10, 8, PALETTE, png_rows(RAMP), before=before, after=chunk(b"tIME", bytes(7)))
    for at in (1, 4, 7):
        yield Case(f"cut-{at}.png", data[:at], "not_an_image")
    names = (b"IHDR", b"PLTE", b"tEXt", b"IDAT", b"tIME", b"IEND")
    for name in names:
        start = data.index(name) - 4
        length = int.from_bytes(data[start : start + 4], "big")
        whole = name in (b"tIME", b"IEND")
        for at in {start, start + 2, start + 6, start + 8 + length // 2, start + 8 + length}:
            enough = whole or (name == b"IDAT" and at == start + 8 + length)
            yield Case(f"cut-{at}.png", data[:at], table[RAMP] if enough else "truncated")
    halves = zlib.compress(png_rows(RAMP))
    parts = [chunk(b"IDAT", halves[at : at + 9]) for at in range(0, len(halves), 9)]
    head = data[:33] + before
    yield Case("data-in-parts.png", head + b"".join(parts), table[RAMP])
    yield Case("data-in-parts-cut.png", head + b"".join(parts[:-2]), "truncated")
    yield Case("data-in-parts-missing.png", head + parts[0] + b"".join(parts[2:]), "corrupt")


def bombs() -> Iterator[Case]:
    """Little that says, or becomes, much."""
    rows, grey = png_rows(RAMP), rgb(RAMP)
    bomb = zeros(ZEROS)
    for name, body in (
        (b"zTXt", b"a\0\0" + bomb),
        (b"iTXt", b"a\0\1\0\0\0" + bomb),
        (b"iCCP", b"a\0\0" + bomb),
    ):
        text = name.decode()
        yield Case(f"{text}-bomb.png", png(10, 10, 8, GREY, rows, before=chunk(name, body)), grey)
        data = png(10, 10, 8, GREY, rows, after=chunk(name, body))
        yield Case(f"{text}-bomb-behind.png", data, grey)
    head = png(10, 10, 8, GREY, rows)[:33]
    yield Case("data-bomb.png", head + chunk(b"IDAT", bomb), np.zeros((10, 10, 3), np.uint8))
    million = b"\0\0" + zlib.compress(b"x" * 1_000_000)
    texts = b"".join(chunk(b"zTXt", b"%d" % number + million) for number in range(80))
    yield Case("80-texts.png", png(10, 10, 8, GREY, rows, before=texts), grey)
    empty = chunk(b"IDAT", b"") * 20_000
    yield Case("20000-empty-data.png", png(10, 10, 8, GREY, rows, before=empty), grey)
    frames = chunk(b"acTL", struct.pack(">II", 1_000_000, 0))
    yield Case("million-frames.png", png(10, 10, 8, GREY, rows, before=frames), grey)
    for size in ((2**31, 2**31), (2**31 - 1, 1), (1, 2**32 - 1), (20_000, 20_000)):
        data = png(*size, 8, GREY, rows)
        yield Case(f"{size[0]}x{size[1]}.png", data, "too_many_pixels")


def damage() -> Iterator[Case]:
    """Wrong values, missing and repeated chunks."""
    rows, grey = png_rows(RAMP), rgb(RAMP)
    data = png(10, 10, 8, GREY, rows)
    head, body, end = data[:33], data[33:-12], data[-12:]
    for size in ((0, 10), (10, 0), (0, 0)):
        yield Case(f"{size[0]}x{size[1]}.png", png(*size, 8, GREY, rows), "corrupt")
    for depth, color in ((3, 0), (16, 3), (8, 7), (0, 0), (255, 255)):
        yield Case(f"layout-{depth}-{color}.png", png(10, 10, depth, color, rows), "corrupt")
    yield Case("no-header.png", data[:8] + body + end, "corrupt")
    yield Case("no-data.png", head + end, "corrupt")
    yield Case("no-palette.png", png(10, 10, 8, PALETTE, rows), "corrupt")
    few = chunk(b"PLTE", bytes([9, 8, 7, 6, 5, 4]))
    expected = np.zeros((10, 10, 3), np.uint8)
    expected[0, 0] = 9, 8, 7
    data = png(10, 10, 8, PALETTE, rows, before=few)
    yield Case("palette-too-short.png", data, expected)
    yield Case("header-checksum.png", head[:-1] + b"?" + body + end, "corrupt")
    yield Case("data-checksum.png", head + body[:-1] + b"?" + end, grey)
    yield Case("text-checksum.png", head + chunk(b"tEXt", b"a\0b")[:-1] + b"?" + body + end, grey)
    yield Case("chunk-name.png", head + chunk(b"\xff\0\1\2", b"") + body + end, grey)
    yield Case("unknown-chunk.png", head + chunk(b"yoUr", b"x" * 70_000) + body + end, grey)
    yield Case("profile-method.png", head + chunk(b"iCCP", b"a\0\7x") + body + end, grey)
    yield Case("transparency-short.png", head + chunk(b"tRNS", b"\1") + body + end, grey)
    for name in (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"acTL", b"fcTL"):
        bad = head + chunk(name, b"") + body + end
        yield Case(f"empty-{name.decode()}.png", bad, grey)
    flipped = bytearray(head + body + end)
    flipped[50] ^= 0xFF
    yield Case("data-damaged.png", bytes(flipped), "corrupt")
    long = head + struct.pack(">I", 2**31 - 1) + body[4:] + end
    yield Case("data-length.png", long, grey)
    filters = b"".join(b"\x09" + row.tobytes() for row in RAMP)
    yield Case("filter-unknown.png", png(10, 10, 8, GREY, filters), "corrupt")
    black = np.where(np.arange(10)[:, None, None] < 5, grey, 0).astype(np.uint8)
    # a complete stream of too few rows: the others are black
    yield Case("rows-missing.png", png(10, 10, 8, GREY, rows[:55]), black)
    yield Case("rows-more.png", png(10, 10, 8, GREY, rows + rows), grey)


def animations() -> Iterator[Case]:
    """The first frame of an animation, or the image that stands for it."""
    first, second = picture(), 255 - picture()
    for default in (False, True):
        data = encoded(
            first,
            "PNG",
            save_all=True,
            default_image=default,
            append_images=[Image.fromarray(second)] * 2,
        )
        yield Case(f"animation-{default}.png", data, first)
        at = data.index(b"fdAT")
        broken = data[: at + 4] + b"\xff" * 40 + data[at + 44 :]
        yield Case(f"animation-{default}-damaged-later.png", broken, first)
        yield Case(f"animation-{default}-cut-later.png", data[:at], first)
        at = data.index(b"fcTL")
        swapped = data[: at + 4] + b"\0\0\0\x63" + data[at + 8 :]
        yield Case(f"animation-{default}-sequence.png", swapped, first)


def cases() -> Iterator[Case]:
    yield from layouts()
    yield from cuts()
    yield from bombs()
    yield from damage()
    yield from animations()
