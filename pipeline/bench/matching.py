"""How many detections of a reference another way of computing them gives as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.network.contract import Boxes

# (least IoU, largest difference of scores), both exclusive
TIGHT, LOOSE = (0.99, 1e-3), (0.9, 0.05)


@dataclass(frozen=True)
class Match:
    """
    Attributes:
        tight, loose: shares of the reference's detections that are paired; 1 if it has none.
        counts_differ: number of images with another number of detections.
    """

    tight: float
    loose: float
    counts_differ: int


def match(found: Sequence[Boxes], reference: Sequence[Boxes]) -> Match:
    """Compare the detections of the same images."""
    pairs = list(zip(found, reference, strict=True))
    total = sum(len(theirs.labels) for _, theirs in pairs)
    tight, loose = (
        sum(paired(ours, theirs, *limits) for ours, theirs in pairs) / total if total else 1.0
        for limits in (TIGHT, LOOSE)
    )
    differ = sum(len(ours.labels) != len(theirs.labels) for ours, theirs in pairs)
    return Match(tight, loose, differ)


def paired(ours: Boxes, theirs: Boxes, least_iou: float, score: float) -> int:
    """How many of their detections have one of ours of the same label, each a different one."""
    overlaps = iou(theirs.xyxy, ours.xyxy)
    near = overlaps > least_iou
    near &= theirs.labels[:, None] == ours.labels
    near &= np.abs(theirs.scores[:, None] - ours.scores) < score
    overlaps[~near] = 0
    count = 0
    for row in overlaps if len(ours.labels) else ():
        best = row.argmax()
        if row[best] > 0:
            overlaps[:, best] = 0
            count += 1
    return count


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, 4] and [M, 4] xyxy to [N, M]."""
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum(a[:, None, 2:], b[:, 2:])
    shared = (high - low).clip(0).prod(2)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(1) for x in (a, b))
    return np.asarray(shared / (area_a[:, None] + area_b - shared))
