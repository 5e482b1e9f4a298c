"""How far detections are from others of the same images, and from the truth."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.bench.matching import iou, match
from pipeline.network.contract import Boxes

# least IoU of what counts as the same detection
PAIRED = 0.9


@dataclass(frozen=True)
class Moves:
    """What became of a reference's detections.

    Attributes:
        boxes: number of them.
        tight, loose, counts_differ: see `pipeline.bench.matching.Match`.
        score_mean, score_p99, score_max: by how much scores differ, of those that are paired.
        corner_mean, corner_p99, corner_max: likewise the farthest of the four coordinates, in
            pixels of the image.
    """

    boxes: int
    tight: float
    loose: float
    counts_differ: int
    score_mean: float
    score_p99: float
    score_max: float
    corner_mean: float
    corner_p99: float
    corner_max: float

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def moved(found: Sequence[Boxes], reference: Sequence[Boxes]) -> Moves:
    """Compare the detections of the same images."""
    same = match(found, reference)
    scores, corners = [0.0], [0.0]
    for ours, theirs in zip(found, reference, strict=True):
        if not len(ours.labels) or not len(theirs.labels):
            continue
        near = iou(theirs.xyxy, ours.xyxy) * (theirs.labels[:, None] == ours.labels)
        best, paired = near.argmax(1), near.max(1) > PAIRED
        scores += np.abs(theirs.scores - ours.scores[best])[paired].tolist()
        corners += np.abs(theirs.xyxy - ours.xyxy[best]).max(1)[paired].tolist()
    if len(scores) > 1:
        del scores[0], corners[0]
    return Moves(
        sum(len(theirs.labels) for theirs in reference),
        same.tight,
        same.loose,
        same.counts_differ,
        *_spread(scores),
        *_spread(corners),
    )


def _spread(values: list[float]) -> tuple[float, float, float]:
    """Mean, 99th percentile and maximum."""
    return float(np.mean(values)), float(np.quantile(values, 0.99)), float(np.max(values))


def average_precision(found: Sequence[Boxes], ids: Sequence[int], truth: Any) -> dict[str, float]:
    """COCO's AP and AP50.

    Args:
        found: of each image.
        ids: of the images.
        truth: a `pycocotools.coco.COCO`.
    """
    from pycocotools.cocoeval import COCOeval  # late: it is not everywhere

    rows = [
        {
            "image_id": image,
            "category_id": int(label),
            "score": float(score),
            "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
        }
        for image, boxes in zip(ids, found, strict=True)
        for (x0, y0, x1, y1), label, score in zip(
            boxes.xyxy, boxes.labels, boxes.scores, strict=True
        )
    ]
    if not rows:
        return {"AP": 0.0, "AP50": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.params.imgIds = list(ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"AP": float(evaluation.stats[0]), "AP50": float(evaluation.stats[1])}
