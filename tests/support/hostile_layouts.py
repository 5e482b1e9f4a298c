"""Every way in which a TIFF may store the same samples, and what a person sees of them."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tests.support.hostile_files import (
    BITS,
    COMPRESSION,
    LENGTH,
    LONG,
    PHOTOMETRIC,
    ROWS,
    SAMPLES,
    SHORT,
    WIDTH,
    Tags,
    tiff,
)
from tests.support.hostile_tiff import COLORMAP, EXTRA, PLANAR, TILE_LENGTH, TILE_WIDTH

PREDICTOR, SUBSAMPLING = 317, 530
HEIGHT, WIDE, STRIP, TILE = 21, 19, 8, 16
NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
# how many samples of a pixel are its colour, by photometric interpretation
COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
TABLE = np.random.default_rng(8).integers(0, 256, (3, 256))


@dataclass(frozen=True)
class Layout:
    """How samples are stored.

    Attributes:
        photometric: what they mean.
        extra: what the samples beyond the colour mean; None where the tag is left out.
        beyond: how many those are.
        bits: of a sample.
        planar: 1 where a pixel's samples stand together, 2 where each has its plane.
        tiled: in tiles, not in strips.
        compression: of each strip or tile.
        predictor: 2 where differences are stored.
        order: of bytes, `<` or `>`.
        big: a BigTIFF.
    """

    photometric: int
    extra: tuple[int, ...] | None = ()
    beyond: int = 0
    bits: int = 8
    planar: int = 1
    tiled: bool = False
    compression: int = NONE
    predictor: int = 1
    order: str = "<"
    big: bool = False

    @property
    def samples(self) -> int:
        return COLORS[self.photometric] + self.beyond


# photometric, what the samples beyond the colour mean (None where that is left out), how many
Meaning = tuple[int, tuple[int, ...] | None, int]
# compression, predictor, whether a BigTIFF
PACKINGS = (
    (NONE, 1, False),
    (NONE, 1, True),
    (DEFLATE, 1, False),
    (DEFLATE, 2, True),
    (LZW, 1, False),
    (LZW, 2, False),
    (PACKBITS, 1, False),
)


def meanings() -> list[Meaning]:
    """All kinds of pixels, of one sample to five."""
    found: list[Meaning] = [(photometric, (), 0) for photometric in COLORS]
    for photometric in (0, 1, 2, 3, 5):
        found += [(photometric, (extra,), 1) for extra in (0, 1, 2)]
        found += [(photometric, extras, 2) for extras in ((0, 0), (1, 0), (2, 0))]
        found += [(photometric, None, 1), (photometric, None, 2)]
    return [*found, (1, (0,) * 4, 4)]


def layouts(photometric: int, bits: int, planar: int) -> Iterator[Layout]:
    """All ways to store pixels of that kind."""
    kinds = [kind for kind in meanings() if kind[0] == photometric]
    for (_, extra, beyond), tiled, order in itertools.product(kinds, (False, True), "<>"):
        for packing, predictor, big in PACKINGS:
            yield Layout(
                photometric, extra, beyond, bits, planar, tiled, packing, predictor, order, big
            )


def samples(layout: Layout) -> np.ndarray:
    """What is stored: [height, width, samples]."""
    choose = np.random.default_rng(layout.samples)
    shape = (HEIGHT, WIDE, layout.samples)
    values = choose.integers(0, 2**layout.bits, shape).astype(f"u{layout.bits // 8}")
    colors = COLORS[layout.photometric]
    if layout.photometric == 3:
        values[..., 0] &= 255
    if layout.extra and layout.extra[0] == 1:  # no colour is above its alpha
        values[..., colors] |= 2 ** (layout.bits - 1)
        values[..., :colors] = np.minimum(values[..., :colors], values[..., colors:][..., :1])
    return values


def file(layout: Layout, values: np.ndarray) -> bytes:
    """The TIFF."""
    tags: Tags = {
        WIDTH: (LONG, [WIDE]),
        LENGTH: (LONG, [HEIGHT]),
        BITS: (SHORT, [layout.bits] * layout.samples),
        COMPRESSION: (SHORT, [layout.compression]),
        PHOTOMETRIC: (SHORT, [layout.photometric]),
        SAMPLES: (SHORT, [layout.samples]),
        PLANAR: (SHORT, [layout.planar]),
        PREDICTOR: (SHORT, [layout.predictor]),
    }
    if layout.tiled:
        tags |= {TILE_WIDTH: (LONG, [TILE]), TILE_LENGTH: (LONG, [TILE])}
    else:
        tags |= {ROWS: (LONG, [STRIP])}
    if layout.extra:
        tags |= {EXTRA: (SHORT, list(layout.extra))}
    if layout.photometric == 3:
        wide = np.pad(TABLE * 257, ((0, 0), (0, 2**layout.bits - 256)))
        tags |= {COLORMAP: (SHORT, wide.astype(f"{layout.order}u2").tobytes())}
    if layout.photometric == 6:
        tags |= {SUBSAMPLING: (SHORT, [1, 1])}
    parts = [_packed(part, layout) for part in _parts(values, layout)]
    return tiff(tags, parts, layout.order, layout.big, tiled=layout.tiled)


def _parts(values: np.ndarray, layout: Layout) -> Iterator[np.ndarray]:
    planes = [values] if layout.planar == 1 else np.split(values, layout.samples, axis=2)
    for plane in planes:
        if layout.tiled:
            padded = np.pad(plane, ((0, -HEIGHT % TILE), (0, -WIDE % TILE), (0, 0)))
            for y in range(0, HEIGHT, TILE):
                for x in range(0, WIDE, TILE):
                    yield padded[y : y + TILE, x : x + TILE]
        else:
            yield from (plane[y : y + STRIP] for y in range(0, HEIGHT, STRIP))


def _packed(part: np.ndarray, layout: Layout) -> bytes:
    if layout.predictor == 2:
        part = np.concatenate([part[:, :1], part[:, 1:] - part[:, :-1]], axis=1)
    data = part.astype(f"{layout.order}u{layout.bits // 8}").tobytes()
    if layout.compression == DEFLATE:
        return zlib.compress(data)
    if layout.compression == LZW:
        return lzw(data)
    if layout.compression == PACKBITS:  # each row for itself, and none of it repeated
        wide = len(data) // len(part)
        rows = [data[at : at + wide] for at in range(0, len(data), wide)]
        return b"".join(
            bytes([len(run) - 1]) + run
            for row in rows
            for run in (row[at : at + 128] for at in range(0, wide, 128))
        )
    return data


def lzw(data: bytes) -> bytes:
    """LZW as TIFF has it, of codes of nine bits: the table is cleared before it grows."""
    codes: list[int] = []
    for at in range(0, len(data), 250):
        codes += [256, *data[at : at + 250]]
    bits = np.array([*codes, 257])[:, None] >> np.arange(8, -1, -1) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def seen(layout: Layout, values: np.ndarray) -> np.ndarray:
    """What a person sees, [height, width, 3] uint8: of 16 bits the high byte, no transparency."""
    if layout.photometric == 3:
        return np.asarray(TABLE.T[values[..., 0]], np.uint8)
    colors = COLORS[layout.photometric]
    eight = (values >> (layout.bits - 8)).astype(float)
    color = eight[..., :colors]
    if layout.photometric == 0:
        color = 255 - color
    if layout.extra and layout.extra[0] == 1:
        color = np.minimum(255, color * 255 / eight[..., colors : colors + 1])
    if layout.photometric == 5:
        color = (255 - color[..., :3]) * (255 - color[..., 3:]) / 255
    if layout.photometric == 6:
        return ycbcr(eight)
    return np.broadcast_to(np.round(color), (HEIGHT, WIDE, 3)).astype(np.uint8)


def ycbcr(values: np.ndarray) -> np.ndarray:
    """The RGB of YCbCr, both [height, width, 3] of 0 to 255."""
    y, cb, cr = np.moveaxis(values.astype(float) - [0, 128, 128], 2, 0)
    color = [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]
    return np.dstack(color).round().clip(0, 255).astype(np.uint8)
