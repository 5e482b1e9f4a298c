"""Which box that people left is which one that they were shown."""

from __future__ import annotations

import numpy as np

# below that, two boxes are not of one object; from the second on, nobody has moved it
SAME, UNMOVED = 0.5, 0.95


def pair(
    shown_owners: np.ndarray,
    shown: np.ndarray,
    shown_classes: np.ndarray,
    left_owners: np.ndarray,
    left: np.ndarray,
    left_classes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Pair the boxes of the same images one to one: first those that nobody has touched, then the
    others by IoU, whatever their class, the best first.

    Args:
        shown_owners: [m] int64, the image of each box that was shown; rising.
        shown: [m, 4] xyxy.
        shown_classes: [m] int64.
        left_owners, left, left_classes: likewise of the n boxes that were left.

    Returns:
        [n] int64, the shown box of each that was left, -1 for none, and [n] float64, their IoU.
    """
    partners, overlaps = np.full(len(left), -1), np.zeros(len(left))
    first = np.searchsorted(shown_owners, left_owners)
    many = np.searchsorted(shown_owners, left_owners, side="right") - first
    theirs = np.repeat(np.arange(len(left)), many)
    within = np.arange(len(theirs)) - np.repeat(np.cumsum(many) - many, many)
    ours = np.repeat(first, many) + within
    ious = _ious(shown[ours], left[theirs])
    near = ious >= SAME
    ours, theirs, ious = ours[near], theirs[near], ious[near]
    touched = (shown_classes[ours] != left_classes[theirs]) | (ious < UNMOVED)
    order = np.lexsort((-ious, touched))
    taken = np.zeros(len(shown), bool)
    pairs = zip(ours[order].tolist(), theirs[order].tolist(), ious[order].tolist(), strict=True)
    for our, their, iou in pairs:
        if not taken[our] and partners[their] < 0:
            taken[our] = True
            partners[their], overlaps[their] = our, iou
    return partners, overlaps


def _ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[n, 4] and [n, 4] xyxy to [n] float64; boxes without an area overlap with nothing."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=1)
    union = np.prod(a[:, 2:] - a[:, :2], axis=1) + np.prod(b[:, 2:] - b[:, :2], axis=1) - both
    ious: np.ndarray = both / np.maximum(union, np.finfo(np.float64).tiny)
    return ious
