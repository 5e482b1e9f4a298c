"""Pairs of boxes enumerated and compared for many images at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# pairs of boxes that are compared at once
AT_ONCE = 1_000_000


def enumerated(
    first: np.ndarray, many: np.ndarray, at_once: int = AT_ONCE
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each of n boxes with each of its partners, which stand next to each other.

    Args:
        first: [n] int64, place of each box's first partner.
        many: [n] int64, number of its partners.
        at_once: pairs wanted in one piece; a box's own are never parted.

    Yields:
        [k] places of the boxes, in ascending order, and [k] places of their partners.
    """
    ends = np.cumsum(many)
    start = 0
    while start < len(many):
        before = ends[start] - many[start]
        stop = max(start + 1, int(np.searchsorted(ends, before + at_once, side="right")))
        number = many[start:stop]
        boxes = np.repeat(np.arange(start, stop), number)
        shift = first[start:stop] - (ends[start:stop] - number - before)
        yield boxes, np.arange(len(boxes)) + np.repeat(shift, number)
        start = stop


def ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[k] intersection over union of boxes [k, 4] and [k, 4], corners in pixels.

    In the precision of the boxes and in the order of torchvision's non-maximum suppression, so
    that the same numbers come out. Not a number for two boxes without area.
    """
    # a column at a time: five times as fast as [k, 2] at once
    (left, top, right, bottom), (left_b, top_b, right_b, bottom_b) = a.T, b.T
    width = np.maximum(np.minimum(right, right_b) - np.maximum(left, left_b), 0)
    height = np.maximum(np.minimum(bottom, bottom_b) - np.maximum(top, top_b), 0)
    common = width * height
    areas = (right - left) * (bottom - top), (right_b - left_b) * (bottom_b - top_b)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = common / (areas[0] + areas[1] - common)
    return found


def one_to_one(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Places of the pairs ([k] each, best first) neither of whose boxes a better pair has taken.

    In rounds: a pair that is the best one left for both of its boxes is taken.
    """
    first_a, first_b = (np.empty(int(side.max(initial=-1)) + 1, np.int64) for side in (a, b))
    free_a, free_b = np.ones(len(first_a), bool), np.ones(len(first_b), bool)
    taken = np.zeros(len(a), bool)
    left = np.arange(len(a))
    while len(left):
        # from the last to the first: what is written last, the best pair, stays
        first_a[a[left][::-1]] = first_b[b[left][::-1]] = left[::-1]
        best = left[(first_a[a[left]] == left) & (first_b[b[left]] == left)]
        taken[best] = True
        free_a[a[best]] = free_b[b[best]] = False
        left = left[free_a[a[left]] & free_b[b[left]]]
    return np.flatnonzero(taken)
