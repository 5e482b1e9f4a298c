"""What the network is given of an image: the whole of it, and tiles where it is large."""

from __future__ import annotations

import numpy as np


def views(height: int, width: int, tile: int | None, overlap: float) -> np.ndarray:
    """The parts of an image that go through the network, each by itself.

    Tiles are those of SAHI (Akyon et al. 2022, https://arxiv.org/abs/2202.06934): the last one of a
    row or column is moved back to the border, so that all of an image have one shape.

    Args:
        height, width: of the image, in pixels.
        tile: pixels of a tile's side; None for no tiles.
        overlap: share of a tile, from 0 to below 1, that the next one repeats at least.

    Returns:
        [N, 4] int64 x0, y0, x1, y1 in pixels of the image: first the whole image, then its tiles
        row by row, if it is larger than a tile in any direction.
    """
    whole = np.array([[0, 0, width, height]], np.int64)
    if tile is None or max(height, width) <= tile:
        return whole
    y, x = np.meshgrid(starts(height, tile, overlap), starts(width, tile, overlap), indexing="ij")
    ends = np.minimum(x + tile, width), np.minimum(y + tile, height)
    return np.concatenate((whole, np.stack((x, y, *ends), axis=-1).reshape(-1, 4)))


def tiles(height: int, width: int, tile: int, overlap: float) -> np.ndarray:
    """The tiles among `views`; all of an image that is no larger than one."""
    found = views(height, width, tile, overlap)
    return found[1:] if len(found) > 1 else found


def starts(length: int, tile: int, overlap: float) -> np.ndarray:
    """[`count`] int64, where the tiles of a row or column of so many pixels begin."""
    last, step = max(0, length - tile), _step(tile, overlap)
    return np.minimum(np.arange(0, last + step, step), last)


def count(length: int, tile: int, overlap: float) -> int:
    """Number of tiles of a row or column."""
    return 1 - -max(0, length - tile) // _step(tile, overlap)


def _step(tile: int, overlap: float) -> int:
    return tile - int(tile * overlap)
