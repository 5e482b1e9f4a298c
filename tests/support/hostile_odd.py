"""Sound files that few programs write: read as they are meant, or refused for what they are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from tests.support.hostile_files import (
    BITS,
    COMPRESSION,
    LONG,
    PHOTOMETRIC,
    ROWS,
    SHORT,
    WIDTH,
    Case,
    Tags,
    chunk,
    encoded,
    exif,
    picture,
    png,
    rgb,
    segment,
    tiff,
    with_segment,
)
from tests.support.hostile_jpeg import blocks, flat
from tests.support.hostile_layouts import SUBSAMPLING, ycbcr
from tests.support.hostile_png import packed
from tests.support.hostile_tiff import (
    COLORMAP,
    EXTRA,
    PLANAR,
    RAMP,
    SAMPLE_FORMAT,
    TILE_LENGTH,
    TILE_WIDTH,
    tags,
)

INK_SET, WEBP = 332, 50001
ORDERS = {"<": "le", ">": "be"}
# segments of a JPEG that are cut, or empty
_RESOURCE = b"Photoshop 3.0\08BIM"
DAMAGED = (
    ("jfif", 0xE0, b"JFIF\0"),
    ("jfif-half", 0xE0, b"JFIF\0\1"),
    ("exif", 0xE1, b"Exif\0\0"),
    ("xmp", 0xE1, b"http://ns.adobe.com/xap/1.0/\0"),
    ("profile", 0xE2, b"ICC_PROFILE\0"),
    ("profile-part", 0xE2, b"ICC_PROFILE\0\1"),
    ("mpo", 0xE2, b"MPF\0"),
    ("photoshop", 0xED, _RESOURCE),
    ("photoshop-code", 0xED, _RESOURCE + b"\4"),
    ("photoshop-name", 0xED, _RESOURCE + b"\3\xed"),
    ("photoshop-size", 0xED, _RESOURCE + b"\3\xed\0\0\0\0"),
    ("photoshop-text", 0xED, _RESOURCE + b"\3\xed\xff" + b"x" * 9),
    ("adobe", 0xEE, b"Adobe"),
    ("adobe-version", 0xEE, b"Adobe\0"),
    ("adobe-flags", 0xEE, b"Adobe\0\x64\0\0"),
    ("comment", 0xFE, b""),
    *((f"app{number}", 0xE0 + number, b"") for number in range(16)),
)


def color_maps() -> Iterator[Case]:
    """Palettes of which only 8 of the 16 bits were stored, as libtiff forgives."""
    for bits in (1, 2, 4, 8):
        values = np.add.outer(np.arange(9), np.arange(13)) % 2**bits
        table = np.random.default_rng(bits).integers(0, 256, (3, 2**bits))
        above = table.copy()
        above[0, 0] = 256  # one value of 9 bits: all are of 16
        strip = packed(values, bits).tobytes()
        kind = tags(9, 13, 1, bits) | {PHOTOMETRIC: (SHORT, [3])}
        for name, colors, shown in (
            ("low", table, table),
            ("high", table * 256 | 255, table),
            ("mixed", above, above // 256),
            ("black", table * 0, table * 0),
        ):
            data = kind | {COLORMAP: (SHORT, colors.ravel().tolist())}
            expected = shown.T[values].astype(np.uint8)
            for order in "<>":
                file = tiff(data, [strip], order)
                yield Case(f"map-{name}{bits}-{ORDERS[order]}.tif", file, expected)
            data |= {COMPRESSION: (SHORT, [8])}
            deflated = tiff(data, [zlib.compress(strip)])
            yield Case(f"map-{name}{bits}-deflate.tif", deflated, expected)


def samples() -> Iterator[Case]:
    """Samples without a meaning in 8 bits of RGB."""
    image = picture()
    refused = "unsupported_mode"
    for order in "<>":
        for bits in (8, 16, 32):
            grey = RAMP.astype(f"{order}i{bits // 8}").tobytes()
            color = image.astype(f"{order}i{bits // 8}").tobytes()
            for packing in (1, 8):
                signed = {SAMPLE_FORMAT: (SHORT, [2]), COMPRESSION: (SHORT, [packing])}
                strips = [zlib.compress(x) if packing == 8 else x for x in (grey, color)]
                name = f"signed{bits}-{ORDERS[order]}-{packing}"
                yield Case(
                    f"{name}.tif", tiff(tags(bits=bits) | signed, strips[:1], order), refused
                )
                signed[SAMPLE_FORMAT] = (SHORT, [2] * 3)
                kind = tags(40, 60, 3, bits) | signed
                yield Case(f"{name}-rgb.tif", tiff(kind, strips[1:], order), refused)
    for count in (5, 7, 10, 300):
        for planar in (1, 2):
            kind = tags(samples=count) | {PLANAR: (SHORT, [planar]), PHOTOMETRIC: (SHORT, [1])}
            strips = [np.dstack([RAMP] * count).tobytes()]
            strips = strips if planar == 1 else [RAMP.tobytes()] * count
            yield Case(f"bands{count}-{planar}.tif", tiff(kind, strips), refused)
    inks = tags(samples=4) | {PHOTOMETRIC: (SHORT, [5]), INK_SET: (SHORT, [2])}
    yield Case("inks.tif", tiff(inks, [np.dstack([RAMP] * 4).tobytes()]), refused)
    planes = tags(samples=3) | {PHOTOMETRIC: (SHORT, [8]), PLANAR: (SHORT, [2])}
    yield Case("lab-planes.tif", tiff(planes, [RAMP.tobytes()] * 3), refused)
    webp = encoded(image, "WEBP", lossless=True)
    kind = tags(40, 60, 3) | {COMPRESSION: (SHORT, [WEBP])}
    yield Case("webp.tif", tiff(kind, [webp]), refused)
    one = tags(40, 60, 4) | {PLANAR: (SHORT, [2]), BITS: (SHORT, [8]), EXTRA: (SHORT, [0])}
    parts = [image[..., band].tobytes() for band in (0, 1, 2, 0)]
    yield Case("planes-bits-said-once.tif", tiff(one, parts), image)


def subsampled() -> Iterator[Case]:
    """YCbCr of which several pixels share their colour, without compression."""
    choose = np.random.default_rng(7)
    for wide, high in ((2, 1), (1, 2), (2, 2), (4, 2)):
        y = choose.integers(0, 256, (16, 24), np.uint8)
        shape = (2, 16 // high, 24 // wide)
        cb, cr = choose.integers(0, 256, shape, np.uint8)
        shown = ycbcr(np.dstack([y, *(c.repeat(high, 0).repeat(wide, 1) for c in (cb, cr))]))
        kind = tags(16, 24, 3) | {PHOTOMETRIC: (SHORT, [6]), SUBSAMPLING: (SHORT, [wide, high])}
        units = y.reshape(16 // high, high, 24 // wide, wide).swapaxes(1, 2)
        data = np.dstack([units.reshape(*shape[1:], -1), cb, cr]).tobytes()
        yield Case(f"ycbcr-{wide}{high}.tif", tiff(kind, [data]), shown, tolerance=2)
        if (wide, high) == (2, 2):  # which is what leaving it out means
            del kind[SUBSAMPLING]
            data = tiff(kind, [data])
            yield Case("ycbcr-unsaid.tif", data, shown, tolerance=2)
            full = np.random.default_rng(7).integers(0, 256, (16, 24, 3), np.uint8)
            data = tiff(kind, [full.tobytes()])  # and what some think that it means
            yield Case("ycbcr-unsaid-full.tif", data, ycbcr(full), tolerance=2)
        planes = [y.tobytes(), cb.tobytes(), cr.tobytes()]
        data = tiff(kind | {PLANAR: (SHORT, [2])}, planes)
        yield Case(f"ycbcr-planes-{wide}{high}.tif", data, "unsupported_mode")


def tiles() -> Iterator[Case]:
    """Tiles whose places stand under the tags of strips."""
    image = picture()
    padded = np.pad(image, ((0, 8), (0, 4), (0, 0)))
    parts = [padded[y : y + 16, x : x + 16].tobytes() for y in (0, 16, 32) for x in (0, 16, 32, 48)]
    kind: Tags = tags(40, 60, 3) | {TILE_WIDTH: (LONG, [16]), TILE_LENGTH: (LONG, [16])}
    spare = tiff(kind, [image.tobytes()])  # strips that speak of tiles
    yield Case("strips-with-tile-size.tif", spare, image)
    del kind[ROWS]
    yield Case("tiles-as-strips.tif", tiff(kind, parts), image)
    yield Case("tiles-as-strips-cut.tif", tiff(kind, parts)[:-2000], "truncated")
    deflate: Tags = {COMPRESSION: (SHORT, [8])}
    packs = [zlib.compress(part) for part in parts]
    yield Case("tiles-as-strips-deflate.tif", tiff(kind | deflate, packs), image)
    huge: Tags = {TILE_WIDTH: (LONG, [2**20]), TILE_LENGTH: (LONG, [2**20])}
    yield Case("tile-bomb-as-strips.tif", tiff(kind | huge, parts), "too_many_pixels")
    data = tiff(kind | huge | deflate, packs)
    yield Case("tile-bomb-as-strips-deflate.tif", data, "too_many_pixels")


def codecs() -> Iterator[Case]:
    """Junk for each of libtiff's codecs, all of which complain on stderr if they may."""
    for number in (2, 3, 4, 5, 6, 7, 8, 32773, 32809, 32946, 34676, 34677, 34925, 50000):
        kind = tags() | {COMPRESSION: (SHORT, [number])}
        yield Case(f"codec-{number}.tif", tiff(kind, [b"\xff" * 30]), "corrupt")
    twice = tags() | {WIDTH: (LONG, [10, 10])}  # of which Pillow warns
    yield Case("width-said-twice.tif", tiff(twice, [RAMP.tobytes()]), rgb(RAMP))


def notes() -> Iterator[Case]:
    """JPEGs with damage where the picture is not: in what applications noted."""
    levels = np.random.default_rng(3).integers(0, 256, (3, 5, 3), np.uint8)
    for name, marker, body in DAMAGED:
        # what Adobe's and EXIF's sound segments say stands beside the damaged one
        colors = flat(levels, adobe=0)
        yield Case(f"note-{name}.jpg", with_segment(colors, marker, body), blocks(levels))
        held = with_segment(with_segment(colors, 0xE1, b"Exif\0\0" + exif(3)), marker, body)
        yield Case(f"note-{name}-turned.jpg", held, blocks(levels)[::-1, ::-1])
        if not body:
            data = colors[:2] + bytes([0xFF, marker, 0, 0]) + colors[2:]
            yield Case(f"note-{name}-no-length.jpg", data, blocks(levels))
    grey = levels[:, :, :1]
    data = with_segment(flat(grey, 0xC5), 0xEE, b"Adobe")
    yield Case("note-adobe-frame-c5.jpg", data, "unsupported_mode")
    data = with_segment(flat(grey), 0xEE, b"Adobe")
    yield Case("note-adobe-grey.jpg", data, rgb(blocks(grey)[:, :, 0]))
    yield Case("note-adobe-cut.jpg", data[:-20], "truncated")
    frame = segment(0xF7, struct.pack(">BHHBBBB", 8, 10, 10, 1, 1, 0x11, 0))
    scan = segment(0xDA, b"\1\1\0\0\0\0") + b"\x12" * 50
    data = b"\xff\xd8" + frame + scan + b"\xff\xd9"
    yield Case("jpeg-ls.jpg", data, "unsupported_mode")
    yield Case("jpeg-ls-jfif.jpg", with_segment(data, 0xE0, b"JFIF\0\1\1"), "unsupported_mode")


def ranges() -> Iterator[Case]:
    """16-bit grey of which a small part of the range is used, as said by the file and unsaid."""
    values = 7000 + RAMP.astype(np.uint16) * 8
    limits: Tags = {280: (SHORT, [7000]), 281: (SHORT, [9040])}
    for order in "<>":
        strip = values.astype(f"{order}u2").tobytes()
        unsaid = tiff(tags(bits=16), [strip], order)
        yield Case(f"thermal-{ORDERS[order]}.tif", unsaid, rgb(values >> 8))
        said = tiff(tags(bits=16) | limits, [strip], order)
        yield Case(f"thermal-said-{ORDERS[order]}.tif", said, rgb(RAMP))
    twelve = RAMP.astype(np.uint16) * 20 + 1
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in twelve)
    shape = twelve.shape[1], twelve.shape[0]
    yield Case("12-bits.png", png(*shape, 16, 0, rows), rgb(twelve >> 8))
    said = png(*shape, 16, 0, rows, before=chunk(b"sBIT", b"\x0d"))
    yield Case("13-bits-said.png", said, rgb(np.floor(twelve / 8191 * 255 + 0.5)))


def cases() -> Iterator[Case]:
    for part in (color_maps, samples, subsampled, tiles, codecs, notes, ranges):
        yield from part()
