"""Which score to cut at: precision, recall and F1 of each category at hundredths of a score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.labels import pairs
from pipeline.labels.match import Matched
from pipeline.labels.truth import Truth

IOU = 0.5
STEPS = np.arange(101) / 100
# detections, and pairs of boxes, that are compared at once
AT_ONCE = 500_000


@dataclass(frozen=True)
class Best:
    """The threshold of a category's best F1, and what it gives.

    Attributes:
        threshold: a score, of two decimals; boxes of at least that are kept.
        precision: share of the kept boxes that are right.
        recall: share of the true boxes that are found.
        f1: their harmonic mean.
    """

    threshold: float
    precision: float
    recall: float
    f1: float


def best_thresholds(truth: Truth, matched: Matched, present_only: bool) -> dict[str, Best]:
    """The threshold of the best F1 by category name; none where nothing right was found.

    A box is right if it has an IoU of 0.5 or more with a true box of its category that no box of a
    higher score has taken, as in COCO's evaluation (pycocotools' `COCOeval.evaluateImg`), but that
    all boxes of an image count. Boxes on a crowd count neither way.

    Args:
        truth: the annotations.
        matched: detections, as from `match`.
        present_only: leave out the truth's images of which the run has no row.
    """
    found = matched.found
    right, ignored = judge(truth, found)
    counted = ~truth.crowds
    if present_only:
        counted &= ~np.isin(truth.image_places, matched.absent)
    best = {}
    for name, category in truth.category_ids.items():
        mine = (found["category"] == category) & ~ignored
        number = int(np.count_nonzero(counted & (truth.box_categories == category)))
        scores = found["score"][mine]
        order = np.argsort(-scores)
        if chosen := _best(scores[order], right[mine][order], number):
            best[name] = chosen
    return best


def _best(scores: np.ndarray, right: np.ndarray, true_boxes: int) -> Best | None:
    """Of [n] scores, highest first, and whether each is right."""
    # a score of float32 is compared with a threshold as an export does it
    kept = np.searchsorted(-scores, -STEPS.astype(np.float32), side="right")
    hits = np.concatenate([[0], np.cumsum(right)])[kept]
    f1 = 2 * hits / np.maximum(kept + true_boxes, 1)
    step = len(f1) - 1 - int(np.argmax(f1[::-1]))  # of equal ones the highest
    if not hits[step]:
        return None
    precision, recall = hits[step] / kept[step], hits[step] / true_boxes
    return Best(float(STEPS[step]), float(precision), float(recall), float(f1[step]))


def judge(truth: Truth, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n] bool each, of detections: right, and on a crowd alone.

    Args:
        truth: the annotations.
        found: [n] of dtype `FOUND`, category ids of the truth; those of an image and category come
            highest score first.
    """
    right, ignored = np.zeros(len(found), bool), np.zeros(len(found), bool)
    taken = np.zeros(len(truth.crowds), bool)
    for boxes, truths, ious in _overlaps(truth, found):
        crowd = truth.crowds[truths]
        order = np.lexsort((-ious, crowd, boxes))
        overlapping = zip(boxes[order].tolist(), truths[order].tolist(), crowd[order], strict=True)
        for box, true_box, is_crowd in overlapping:
            if right[box] or taken[true_box]:
                continue
            if is_crowd:
                ignored[box] = True
            else:
                right[box] = taken[true_box] = True
    return right, ignored & ~right


def _overlaps(
    truth: Truth, found: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The pairs of a detection and a true box of its image and category that overlap enough: places
    of both, and their IoU. Detections in their order, all pairs of one at once.
    """
    categories = max(1, *truth.category_ids.values(), 0) + 1
    true_groups = truth.image_places * categories + truth.box_categories
    order = np.argsort(true_groups, kind="stable")
    true_groups = true_groups[order]
    for start in range(0, len(found), AT_ONCE):
        some = found[start : start + AT_ONCE]
        groups = some["place"].astype(np.int64) * categories + some["category"]
        first = np.searchsorted(true_groups, groups)
        many = np.searchsorted(true_groups, groups, side="right") - first
        for boxes, places in pairs.enumerated(first, many, AT_ONCE):
            truths = order[places]
            ious = _ious(some["xyxy"][boxes], truth.xywh[truths], truth.crowds[truths])
            enough = ious >= IOU
            yield start + boxes[enough], truths[enough], ious[enough]


def _ious(xyxy: np.ndarray, xywh: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """[n] IoU in float64; with a crowd, the share of the detection that lies in it."""
    a, b = xyxy.astype(np.float64), xywh.astype(np.float64)
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, :2] + b[:, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=1)
    mine = np.prod(a[:, 2:] - a[:, :2], axis=1)
    union = np.where(crowd, mine, mine + np.prod(b[:, 2:], axis=1) - both)
    ious: np.ndarray = both / np.maximum(union, np.finfo(np.float64).tiny)
    return ious
