"""Which box that people left is which one that they were shown."""

from __future__ import annotations

import numpy as np

from pipeline.labels import pairs

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
    near: list[tuple[np.ndarray, ...]] = [(np.empty(0, int), np.empty(0, int), np.empty(0))]
    for theirs, ours in pairs.enumerated(first, many):
        ious = pairs.ious(shown[ours].astype(np.float64), left[theirs].astype(np.float64))
        kept = ious >= SAME
        near.append((ours[kept], theirs[kept], ious[kept]))
    ours, theirs, ious = map(np.concatenate, zip(*near, strict=True))
    touched = (shown_classes[ours] != left_classes[theirs]) | (ious < UNMOVED)
    order = np.lexsort((-ious, touched))
    order = order[pairs.one_to_one(ours[order], theirs[order])]
    partners[theirs[order]], overlaps[theirs[order]] = ours[order], ious[order]
    return partners, overlaps
