"""All ways to store samples in a TIFF: the pixels that tifffile sees, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.images.decode import DecodeError, decode, read_header
from tests.support.hostile_layouts import COLORS, LZW, file, layouts, samples, seen
from tests.support.tiffs import stored

# Of how many kinds of pixels the pixels come, by photometric interpretation, bits and planes, for
# low bytes first and high bytes first; the others are refused.
READ = {
    (0, 8, 1): (1, 1),
    (0, 8, 2): (5, 5),
    (0, 16, 1): (1, 0),
    (0, 16, 2): (5, 0),
    (1, 8, 1): (4, 4),
    (1, 8, 2): (6, 6),
    (1, 16, 1): (1, 1),
    (1, 16, 2): (6, 6),
    (2, 8, 1): (8, 8),
    (2, 8, 2): (7, 7),
    (2, 16, 1): (5, 5),
    (2, 16, 2): (7, 7),
    (3, 8, 1): (3, 3),
    (3, 8, 2): (5, 5),
    (5, 8, 1): (3, 3),
    (5, 8, 2): (5, 5),
    (5, 16, 1): (1, 1),
    (5, 16, 2): (5, 5),
    (6, 8, 1): (1, 1),
    (6, 8, 2): (1, 1),
}


def outcome(data: bytes) -> np.ndarray | str:
    try:
        return decode(read_header(data, 10_000))
    except DecodeError as error:
        assert "; store " in str(error)
        return error.code


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", COLORS)
def test_pixels_as_stored_or_none(photometric: int, bits: int, planar: int) -> None:
    read, refused = set(), set()
    for layout in layouts(photometric, bits, planar):
        kind = layout.order, layout.extra, layout.beyond
        values = samples(layout)
        data = file(layout, values)
        if layout.compression != LZW:  # for which tifffile needs imagecodecs
            np.testing.assert_array_equal(stored(data, layout), values)
        came = outcome(data)
        if isinstance(came, str):
            assert came == "unsupported_mode", layout
            if not (layout.big and layout.order == ">"):  # which are all refused
                refused.add(kind)
            continue
        read.add(kind)
        off = np.abs(came.astype(int) - seen(layout, values)).max()
        # Pillow computes colours in whole numbers
        exact = photometric < 5 and not (layout.extra and layout.extra[0] == 1)
        assert off <= (0 if exact else 2), layout
    assert not read & refused  # whatever the packing
    orders = [order for order, _, _ in read]
    assert (orders.count("<"), orders.count(">")) == READ.get((photometric, bits, planar), (0, 0))
