"""One object, one box: doubles under other labels left out of what a run kept.

torchvision suppresses doubles within a class only, so one object can have a box as a car and one
as a truck.
"""

from __future__ import annotations

import numpy as np

from pipeline.labels import pairs
from pipeline.labels.boxes import BoxBatch


def without_doubles(found: BoxBatch, iou: float | None) -> BoxBatch:
    """The same images without boxes that have an IoU above `iou` with a kept one of a higher score.

    Labels do not matter. The same boxes as by torchvision.ops.nms are kept. Which are left out does
    not depend on those of lower scores, so a threshold may be set before or after.

    Args:
        found: any, with the highest score first within an image.
        iou: None leaves all boxes.
    """
    if iou is None:
        return found
    better, worse = _overlapping(found, iou)
    kept = np.ones(len(found.labels), bool)
    while len(worse):
        certain = np.ones(len(kept), bool)
        certain[worse] = False  # as long as a better one may stay
        kept[worse[certain[better]]] = False
        open_ = kept[better] & kept[worse]
        better, worse = better[open_], worse[open_]
    return found.keep(kept, found.labels)


def _overlapping(found: BoxBatch, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of an image's boxes that overlap more: places of the better and the worse one."""
    first = found.starts[found.owners]
    before = np.arange(len(found.labels)) - first
    betters, worses = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for worse, better in pairs.enumerated(first, before):
        doubles = pairs.ious(found.xyxy[better], found.xyxy[worse]) > iou
        betters.append(better[doubles])
        worses.append(worse[doubles])
    return np.concatenate(betters), np.concatenate(worses)
