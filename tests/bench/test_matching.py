"""Detections of one image paired with those of another way of computing them."""

from __future__ import annotations

import numpy as np

from pipeline.bench.matching import match
from pipeline.network.contract import Boxes


def boxes(*rows: tuple[float, float, float, float, int, float]) -> Boxes:
    values = np.array(rows, np.float32).reshape(-1, 6)
    return Boxes(values[:, :4], values[:, 4].astype(np.int64), values[:, 5])


def test_matching() -> None:
    theirs = boxes((0, 0, 100, 100, 1, 0.9), (0, 0, 50, 50, 2, 0.5), (0, 0, 50, 50, 2, 0.5))
    assert match([theirs], [theirs]) == match([boxes()], [boxes()])
    assert match([theirs], [theirs]).tight == 1
    # one of ours pairs with one of theirs only
    found = match([boxes((0, 0, 50, 50, 2, 0.5))], [theirs])
    assert (found.tight, found.loose, found.counts_differ) == (1 / 3, 1 / 3, 1)
    other_label = boxes((0, 0, 100, 100, 3, 0.9), (9, 9, 50, 50, 2, 0.5), (0, 0, 50, 50, 2, 0.502))
    found = match([other_label], [theirs])
    assert (found.tight, found.loose, found.counts_differ) == (0, 1 / 3, 0)
    # of two that are near enough, the nearer one, which leaves the other one its own
    theirs = boxes((0, 0, 100, 100, 1, 0.9), (0, 0, 100, 95, 1, 0.9))
    assert match([boxes((0, 0, 100, 95, 1, 0.9), (0, 0, 100, 100, 1, 0.9))], [theirs]).loose == 1
