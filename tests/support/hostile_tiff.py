"""TIFF files: sample layouts, compressions, cut everywhere, directories that lead astray."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.support.hostile_files import (
    ASCII,
    BITS,
    COMPRESSION,
    COUNTS,
    DOUBLE,
    LENGTH,
    LONG,
    OFFSETS,
    PHOTOMETRIC,
    ROWS,
    SAMPLES,
    SHORT,
    WIDTH,
    Case,
    Tags,
    encoded,
    picture,
    rgb,
    tiff,
)
from tests.support.hostile_png import packed, zeros

PLANAR, COLORMAP, TILE_WIDTH, TILE_LENGTH, EXTRA, SAMPLE_FORMAT = 284, 320, 322, 323, 338, 339
RAMP = (np.arange(100).reshape(10, 10) * 2).astype(np.uint8)


def tags(height: int = 10, width: int = 10, samples: int = 1, bits: int = 8) -> Tags:
    """Of an uncompressed image in one strip."""
    return {
        WIDTH: (LONG, [width]),
        LENGTH: (LONG, [height]),
        BITS: (SHORT, [bits] * samples),
        COMPRESSION: (SHORT, [1]),
        PHOTOMETRIC: (SHORT, [2 if samples > 2 else 1]),
        SAMPLES: (SHORT, [samples]),
        ROWS: (LONG, [height]),
    }


def layouts() -> Iterator[Case]:
    """Depths and kinds of samples, both byte orders."""
    image, grey = picture(), rgb(RAMP)
    for bits in (1, 2, 4, 8):
        values = np.add.outer(np.arange(9), np.arange(13)) % 2**bits
        strip = [packed(values, bits).tobytes()]
        shown = rgb(values * (255 // (2**bits - 1)))
        for photometric, expected in ((1, shown), (0, 255 - shown)):
            kind = tags(9, 13, 1, bits) | {PHOTOMETRIC: (SHORT, [photometric])}
            yield Case(f"grey{bits}-{photometric}.tif", tiff(kind, strip), expected)
        table = np.random.default_rng(bits).integers(0, 256, (3, 2**bits), np.uint8)
        colors = (table.astype(int) * 257).ravel().tolist()
        kind = tags(9, 13, 1, bits) | {PHOTOMETRIC: (SHORT, [3]), COLORMAP: (SHORT, colors)}
        yield Case(f"palette{bits}.tif", tiff(kind, strip), table.T[values])
    for order, name in (("<", "le"), (">", "be")):
        yield Case(f"{name}.tif", tiff(tags(), [RAMP.tobytes()], order), grey)
        # Pillow knows no BigTIFF of this order
        known = grey if order == "<" else "unsupported_mode"
        yield Case(f"{name}-big.tif", tiff(tags(), [RAMP.tobytes()], order, big=True), known)
        wide = (RAMP.astype(int) * 256 + 100).astype(order + "u2").tobytes()
        deflate = {COMPRESSION: (SHORT, [8])}
        yield Case(f"{name}16.tif", tiff(tags(bits=16), [wide], order), grey)
        data = tiff(tags(bits=16) | deflate, [zlib.compress(wide)], order)
        yield Case(f"{name}16-deflate.tif", data, grey)
        wide = (image.astype(int) * 256 + 100).astype(order + "u2").tobytes()
        yield Case(f"{name}16-rgb.tif", tiff(tags(40, 60, 3, 16), [wide], order), image)
        for sample, code in (("f4", 3), ("i4", 1), ("i2", 2)):
            strip = [RAMP.astype(order + sample).tobytes()]
            layout = tags(bits=int(sample[1]) * 8) | {SAMPLE_FORMAT: (SHORT, [code])}
            data = tiff(layout, strip, order)
            yield Case(f"{name}-{sample}.tif", data, "unsupported_mode")
    white = tags(bits=16) | {PHOTOMETRIC: (SHORT, [0])}
    wide = ((255 - RAMP.astype(int)) * 256 + 100).astype("<u2").tobytes()
    yield Case("white-is-zero16.tif", tiff(white, [wide]), grey)
    samples = np.unpackbits((RAMP.astype(int) * 16).astype(">u2").view(np.uint8), axis=1)
    twelve = np.packbits(samples.reshape(10, 10, 16)[:, :, 4:].reshape(10, -1), axis=1).tobytes()
    yield Case("grey12.tif", tiff(tags(bits=12), [twelve]), grey)
    clear = np.dstack([image, np.full((40, 60), 9, np.uint8)])
    for extra in (0, 2):
        kind = tags(40, 60, 4) | {EXTRA: (SHORT, [extra])}
        yield Case(f"extra-{extra}.tif", tiff(kind, [clear.tobytes()]), image)
    opaque = np.dstack([image, np.full((40, 60), 255, np.uint8)])
    kind = tags(40, 60, 4) | {EXTRA: (SHORT, [1])}
    yield Case("extra-1.tif", tiff(kind, [opaque.tobytes()]), image)
    both = np.dstack([RAMP, np.full((10, 10), 255, np.uint8)])
    for extra in (0, 1, 2):
        kind = tags(samples=2) | {EXTRA: (SHORT, [extra])}
        yield Case(f"grey-extra-{extra}.tif", tiff(kind, [both.tobytes()]), grey)
    ink = np.dstack([255 - image, np.zeros((40, 60), np.uint8)])
    kind = tags(40, 60, 4) | {PHOTOMETRIC: (SHORT, [5])}
    yield Case("cmyk.tif", tiff(kind, [ink.tobytes()]), image, tolerance=1)
    lab = np.dstack([RAMP, np.zeros((10, 10, 2), np.uint8)])  # a and b are 0: grey
    kind = tags(samples=3) | {PHOTOMETRIC: (SHORT, [8])}
    yield Case(
        "lab.tif", tiff(kind, [lab.tobytes()]), rgb(np.round(_srgb(RAMP / 255))), tolerance=6
    )
    jpeg = encoded(image, "TIFF", compression="jpeg", quality=98)
    yield Case("ycbcr-jpeg.tif", jpeg, image, tolerance=12)


def _srgb(lightness: np.ndarray) -> np.ndarray:
    """Grey values 0 to 255 of CIE lightness 0 to 1."""
    light = np.where(lightness > 0.08, ((lightness + 0.16) / 1.16) ** 3, lightness / 9.033)
    return 255 * np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)


def organisation() -> Iterator[Case]:
    """Strips, tiles, planes, compressions, and their ends."""
    image = picture()
    for name in ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "lzma", "zstd"):
        yield Case(f"{name}.tif", encoded(image, "TIFF", compression=name), image)
    dots = np.add.outer(np.arange(40) // 3, np.arange(60) // 7) % 2 * 255
    for name in ("group3", "group4", "tiff_ccitt"):
        data = encoded(
            Image.fromarray(dots.astype(np.uint8)).convert("1"), "TIFF", compression=name
        )
        yield Case(f"{name}.tif", data, rgb(dots))
    rows = [image[at : at + 8].tobytes() for at in range(0, 40, 8)]
    kind = tags(40, 60, 3) | {ROWS: (LONG, [8])}
    yield Case("strips.tif", tiff(kind, rows), image)
    deflated = kind | {COMPRESSION: (SHORT, [8])}
    packs = [zlib.compress(row) for row in rows]
    yield Case("strips-deflate.tif", tiff(deflated, packs), image)
    planes = tags(40, 60, 3) | {PLANAR: (SHORT, [2])}
    parts = [image[:, :, band].tobytes() for band in range(3)]
    yield Case("planes.tif", tiff(planes, parts), image)
    packed_planes = planes | {COMPRESSION: (SHORT, [8])}
    data = tiff(packed_planes, [zlib.compress(part) for part in parts])
    yield Case("planes-deflate.tif", data, image)
    padded = np.pad(image, ((0, 8), (0, 4), (0, 0)))
    tiles = [padded[y : y + 16, x : x + 16].tobytes() for y in (0, 16, 32) for x in (0, 16, 32, 48)]
    tiled = tags(40, 60, 3) | {TILE_WIDTH: (LONG, [16]), TILE_LENGTH: (LONG, [16])}
    del tiled[ROWS]
    yield Case("tiles.tif", tiff(tiled, tiles, tiled=True), image)
    deflated_tiles = tiled | {COMPRESSION: (SHORT, [8])}
    packs_of_tiles = [zlib.compress(tile) for tile in tiles]
    yield Case("tiles-deflate.tif", tiff(deflated_tiles, packs_of_tiles, tiled=True), image)
    yield Case("strip-missing.tif", tiff(kind, rows[:-1]), "corrupt")
    yield Case("strip-missing-deflate.tif", tiff(deflated, packs[:-1]), "corrupt")
    yield Case("tile-missing.tif", tiff(tiled, tiles[:-1], tiled=True), "corrupt")
    yield Case("plane-missing.tif", tiff(planes, parts[:-1]), "corrupt")
    yield Case(
        "strip-too-short.tif", tiff(deflated, [zlib.compress(rows[0][:50]), *packs[1:]]), "corrupt"
    )
    start = len(tiff(kind, rows)) - image.size
    one = kind | {OFFSETS: (LONG, [start] * 5), COUNTS: (LONG, [len(rows[0])] * 5)}
    yield Case("strips-at-one-place.tif", tiff(one) + rows[0], np.tile(image[:8], (5, 1, 1)))
    for name, at in (("outside", 100_000), ("far-outside", 2**32 - 1)):
        gone = kind | {OFFSETS: (LONG, [at] * 5), COUNTS: (LONG, [1440] * 5)}
        yield Case(f"strips-{name}.tif", tiff(gone), "truncated")
        gone |= {COMPRESSION: (SHORT, [8])}
        yield Case(f"strips-{name}-deflate.tif", tiff(gone), "truncated")
    reduced, below = {254: (LONG, [1])}, {330: (LONG, [8])}
    yield Case("reduced.tif", tiff(kind | reduced, rows), image)
    yield Case("full-before-reduced.tif", tiff(kind | below, rows), image)
    yield Case("preview-of-raw.tif", tiff(kind | reduced | below, rows), "unsupported_mode")
    many = tags(1000, 1000) | {ROWS: (LONG, [1])}
    data = tiff(many | {OFFSETS: (LONG, [8] * 1000), COUNTS: (LONG, [1000] * 1000)})
    row = np.frombuffer(data, np.uint8)[8:1008]
    yield Case("strips-in-directory.tif", data, rgb(np.tile(row, (1000, 1))))


def cuts() -> Iterator[Case]:
    """Cut in the header, the directory, its values, the pixels."""
    image = picture()
    raw = tiff(tags(40, 60, 3), [image.tobytes()])
    packs = encoded(image, "TIFF", compression="tiff_lzw")  # with its directory at the end
    for name, data in (("raw", raw), ("lzw", packs)):
        for length in (1, 3):
            yield Case(f"cut-{name}-{length}.tif", data[:length], "not_an_image")
        lengths = {4, 7, 8, 9, 10, 15, 21, 22, 40, 100, 120, 130}
        lengths |= {len(data) * part // 8 for part in range(1, 8)} | {len(data) - 1}
        for length in sorted(lengths):
            if name == "raw" or length < len(data) - 1:
                yield Case(f"cut-{name}-{length}.tif", data[:length], "truncated")


def bombs() -> Iterator[Case]:
    """Little that says, or becomes, much."""
    grey = np.zeros((10, 10, 3), np.uint8)
    bomb = zeros(2**31)
    deflate: Tags = {COMPRESSION: (SHORT, [8])}
    yield Case("strip-bomb.tif", tiff(tags() | deflate, [bomb]), grey)
    huge = tags() | deflate | {ROWS: (LONG, [2**32 - 1])}
    yield Case("strip-of-all-rows.tif", tiff(huge, [bomb]), grey)
    for side in (40_000, 2**31):
        tiled = tags() | deflate | {TILE_WIDTH: (LONG, [side]), TILE_LENGTH: (LONG, [side])}
        yield Case(f"tile-bomb-{side}.tif", tiff(tiled, [bomb], tiled=True), "too_many_pixels")
        del tiled[COMPRESSION]
        data = tiff(tiled, [RAMP.tobytes()], tiled=True)
        yield Case(f"tile-of-{side}.tif", data, "too_many_pixels")
    for big in (False, True):
        # Pillow goes no further than to a value that the file's end cuts off, libtiff does
        text = {283: (ASCII, b"x" * 99), TILE_WIDTH: (LONG, [32]), TILE_LENGTH: (LONG, [2**23])}
        data = tiff(tags() | deflate | text, [bomb], tiled=True, big=big)
        at = data.index(struct.pack("<HHQ" if big else "<HHI", 283, ASCII, 99)) + (12 if big else 8)
        data = (
            data[:at]
            + struct.pack("<Q" if big else "<I", len(data) - 9)
            + data[at + (8 if big else 4) :]
        )
        yield Case(f"tile-bomb-behind-a-cut-{big}.tif", data, "corrupt")
    for height, width in ((2**31, 2**31), (2**32 - 1, 1), (20_000, 20_000)):
        data = tiff(tags(height, width), [RAMP.tobytes()])
        yield Case(f"{height}x{width}.tif", data, "too_many_pixels")
    samples = tags() | {SAMPLES: (LONG, [2**31])}
    yield Case("samples.tif", tiff(samples, [RAMP.tobytes()]), "corrupt")
    value = tags() | {270: (ASCII, b"x" * 99)}
    data = tiff(value, [RAMP.tobytes()]).replace(
        struct.pack("<HHI", 270, ASCII, 99), struct.pack("<HHI", 270, ASCII, 2**32 - 1)
    )
    yield Case("text-of-4-gigabytes.tif", data, rgb(RAMP))


def directories() -> Iterator[Case]:
    """Directories that loop, lie or lack."""
    strip, grey = [RAMP.tobytes()], rgb(RAMP)
    yield Case("next-is-itself.tif", tiff(tags(), strip, following=8), grey)
    yield Case("next-outside.tif", tiff(tags(), strip, following=2**32 - 1), grey)
    frames = tiff(tags(), strip)
    page = frames[8 : frames.index(RAMP.tobytes())]
    pages = b"".join(
        page[:-4] + struct.pack("<I", len(frames) + (number + 1) * len(page))
        for number in range(30_000)
    )
    first = tiff(tags(), strip, following=len(frames))
    yield Case("30000-pages.tif", first + pages, grey)
    for tag in (34665, 34853, 330, 40965):
        for name, at in (("itself", 8), ("outside", 2**31), ("header", 0)):
            data = tiff(tags() | {tag: (LONG, [at])}, strip)
            yield Case(f"below-{tag}-{name}.tif", data, grey)
    yield Case("directory-outside.tif", b"II*\0" + struct.pack("<I", 2**31), "truncated")
    yield Case("directory-is-header.tif", b"II*\0" + bytes(100), "corrupt")
    for tag, name in ((WIDTH, "width"), (LENGTH, "length")):
        short = tags()
        del short[tag]
        yield Case(f"no-{name}.tif", tiff(short, strip), "corrupt")
    yield Case("no-strips.tif", tiff(tags()), "corrupt")
    for name, tag, value in (
        ("zero-width", WIDTH, (LONG, [0])),
        ("width-text", WIDTH, (ASCII, b"10\0")),
        ("width-fraction", WIDTH, (DOUBLE, [10.5])),
        ("strips-text", OFFSETS, (ASCII, b"aaaaaaa\0")),
        ("strips-fraction", OFFSETS, (DOUBLE, [8.5])),
        ("rows-text", ROWS, (ASCII, b"10\0")),
    ):
        odd = tags() | {OFFSETS: (LONG, [8]), COUNTS: (LONG, [100]), tag: value}
        yield Case(f"{name}.tif", tiff(odd) + strip[0], "corrupt")
    for name, tag, number in (
        ("compression", COMPRESSION, 34887),
        ("bits", BITS, 7),
        ("photometric", PHOTOMETRIC, 99),
    ):
        data = tiff(tags() | {tag: (SHORT, [number])}, strip)
        yield Case(f"unknown-{name}.tif", data, "unsupported_mode")


def cases() -> Iterator[Case]:
    for part in (layouts, organisation, cuts, bombs, directories):
        yield from part()
