"""Which parts of an image the network is given."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.images.tiling import views


@pytest.mark.parametrize("height,width", [(1, 1), (64, 64), (64, 20)])
def test_what_is_no_larger_than_a_tile_is_one_view(height: int, width: int) -> None:
    assert views(height, width, 64, 0.2).tolist() == [[0, 0, width, height]]
    assert views(10 * height, width, None, 0.2).tolist() == [[0, 0, width, 10 * height]]


def test_the_last_tile_is_moved_back_to_the_border() -> None:
    whole, *tiles = views(100, 150, 64, 0.25).tolist()
    assert whole == [0, 0, 150, 100]
    lefts, tops = (0, 48, 86), (0, 36)
    assert tiles == [[x, y, x + 64, y + 64] for y in tops for x in lefts]
    assert views(40, 100, 64, 0).tolist()[1:] == [[0, 0, 64, 40], [36, 0, 100, 40]]


def test_tiles_cover_the_image_in_one_shape_with_their_overlap() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        height, width = (int(n) for n in random.integers(1, 400, 2))
        tile, overlap = int(random.integers(32, 200)), float(random.uniform(0, 0.9))
        whole, *tiles = views(height, width, tile, overlap).tolist()
        assert bool(tiles) == (max(height, width) > tile)
        shapes = {(y1 - y0, x1 - x0) for x0, y0, x1, y1 in tiles}
        assert shapes <= {(min(tile, height), min(tile, width))}
        assert len({tuple(box) for box in tiles}) == len(tiles)
        for axis, length in ((0, width), (1, height)):
            starts = sorted({box[axis] for box in tiles})
            if tiles:
                assert starts[0] == 0 and starts[-1] == max(0, length - tile)
                assert all(np.diff(starts) <= tile - int(tile * overlap))
