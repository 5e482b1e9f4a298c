"""Which boxes of A are which of B, and what became of each, for many images at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.labels import pairs
from pipeline.labels.boxes import BoxBatch

# of a pair of boxes that are one object
IOU = 0.5
# from which on both boxes stand in one place
SAME_IOU = 0.95
KINDS = ("same", "moved", "relabelled", "fell", "rose", "only_a", "only_b")
SAME, MOVED, RELABELLED, FELL, ROSE, ONLY_A, ONLY_B = range(len(KINDS))
# kinds of boxes that do not count on a side
NOT_IN_A, NOT_IN_B = (ROSE, ONLY_B), (FELL, ONLY_A)


@dataclass(frozen=True)
class Changes:
    """What became of each box whose score reaches the threshold on one side at least; k in all.

    Attributes:
        kinds: [k] int64, places in `KINDS`.
            same: one label on both sides, an IoU of `SAME_IOU` or more.
            moved: one label, a lower IoU.
            relabelled: another label.
            fell: one label, but B's score is below the threshold.
            rose: one label, but A's score is.
            only_a, only_b: the other side has no such box.
        a, b: [k] int64, places of the boxes on both sides, -1 where there is none.
        images: [k] int64, places of the images.
        amounts: [k] float32, 0 to 1, how much has changed: 1 - IoU of what moved, the lower score
            of what was relabelled, the difference of scores of what fell or rose, and the score of
            what only one side has.
    """

    kinds: np.ndarray
    a: np.ndarray
    b: np.ndarray
    images: np.ndarray
    amounts: np.ndarray


def compare(a: BoxBatch, b: BoxBatch, threshold: float, iou: float = IOU) -> Changes:
    """Pair the boxes of each image one to one.

    First those that reach the threshold on both sides, whatever their labels: what is the same,
    then the highest IoU. Of the others, likewise, those of one label that reach it on one side.

    Args:
        a, b: the same images in the same order, labels of one numbering.
        threshold: score from which on a box counts.
        iou: that a pair has at least.
    """
    shown_a, shown_b = (side.scores >= np.float32(threshold) for side in (a, b))
    i, j, ious = _candidates(a, b, shown_a, shown_b, iou)
    alike, both = a.labels[i] == b.labels[j], shown_a[i] & shown_b[j]
    order = np.lexsort((~alike, -ious, ~(alike & (ious >= SAME_IOU)), ~both))
    order = order[pairs.one_to_one(i[order], j[order])]
    i, j, ious, alike, both = i[order], j[order], ious[order], alike[order], both[order]
    kinds = np.where(alike, np.where(ious >= SAME_IOU, SAME, MOVED), RELABELLED)
    kinds = np.where(both, kinds, np.where(shown_a[i], FELL, ROSE))
    scores = a.scores[i], b.scores[j]
    amounts = np.select(
        [kinds == SAME, kinds == MOVED, kinds == RELABELLED],
        [np.float32(0), 1 - ious, np.minimum(*scores)],
        np.abs(scores[0] - scores[1]),
    )
    alone_a, alone_b = shown_a.copy(), shown_b.copy()
    alone_a[i] = alone_b[j] = False
    only_a, only_b = np.flatnonzero(alone_a), np.flatnonzero(alone_b)
    none_a, none_b = np.full(len(only_b), -1), np.full(len(only_a), -1)
    return Changes(
        np.concatenate([kinds, np.full(len(only_a), ONLY_A), np.full(len(only_b), ONLY_B)]),
        np.concatenate([i, only_a, none_a]),
        np.concatenate([j, none_b, only_b]),
        np.concatenate([a.owners[i], a.owners[only_a], b.owners[only_b]]),
        np.concatenate([amounts, a.scores[only_a], b.scores[only_b]]).astype(np.float32),
    )


def _candidates(
    a: BoxBatch, b: BoxBatch, shown_a: np.ndarray, shown_b: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places in A, places in B and IoUs ([n] each) of the pairs that come into question."""
    first, many = b.starts[:-1][a.owners], np.diff(b.starts)[a.owners]
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
    for i, j in pairs.enumerated(first, many):
        in_a, in_b = shown_a[i], shown_b[j]
        wanted = (in_a & in_b) | ((in_a | in_b) & (a.labels[i] == b.labels[j]))
        i, j = i[wanted], j[wanted]
        ious = pairs.ious(a.xyxy[i], b.xyxy[j])
        enough = ious >= least
        found.append((i[enough], j[enough], ious[enough]))
    i, j, ious = map(np.concatenate, zip(*found, strict=True))
    return i, j, ious
