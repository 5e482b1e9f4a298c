"""Other rules of merging, made-up boxes to merge, and AP where an image has hundreds of objects."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.bench.matching import iou
from pipeline.images import tiling
from pipeline.network.contract import Boxes
from pipeline.stages import merging

Rule = Callable[[Sequence[Boxes], np.ndarray], Boxes]


def _all(parts: Sequence[Boxes], views: np.ndarray) -> Boxes:
    """In pixels of the image, best first."""
    xyxy = [part.xyxy + view[[0, 1, 0, 1]] for part, view in zip(parts, views, strict=True)]
    labels = np.concatenate([part.labels for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    order = np.argsort(-scores, kind="stable")
    return Boxes(np.concatenate(xyxy)[order].astype(np.float32), labels[order], scores[order])


def _overlaps(boxes: Boxes, smaller: bool) -> np.ndarray:
    """[N, N] of a class the IoU, or the share of the smaller box that both have in common."""
    shares = iou(boxes.xyxy, boxes.xyxy)
    if smaller:
        areas = (boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]).prod(axis=1)
        total = areas[:, None] + areas
        # of both, as the IoU tells it
        shared = total * shares / (1 + shares)
        shares = shared / np.minimum(areas[:, None], areas)
    return np.asarray(shares * (boxes.labels[:, None] == boxes.labels))


def by_nms(parts: Sequence[Boxes], views: np.ndarray, smaller: bool = False) -> Boxes:
    """Non-maximum suppression of everything, as SAHI's NMS with IOU, or IOS."""
    boxes = _all(parts, views)
    over = _overlaps(boxes, smaller) > merging.MATCH
    alive = np.ones(len(over), bool)
    for place in range(len(over)):
        if alive[place]:
            alive[place + 1 :] &= ~over[place, place + 1 :]
    return Boxes(boxes.xyxy[alive], boxes.labels[alive], boxes.scores[alive])


def by_greedy_nmm(parts: Sequence[Boxes], views: np.ndarray) -> Boxes:
    """Greedy merging of what overlaps by half of the smaller box, as SAHI's GREEDYNMM with IOS."""
    boxes = _all(parts, views)
    over, xyxy = _overlaps(boxes, smaller=True) > merging.MATCH, boxes.xyxy.copy()
    alive, kept = np.ones(len(over), bool), []
    for place in range(len(over)):
        if not alive[place]:
            continue
        kept.append(place)
        group = np.flatnonzero(alive & over[place])
        alive[group] = alive[place] = False
        for other in group[group != place]:
            box = np.concatenate((xyxy[place, :2], xyxy[other, :2])).reshape(2, 2).min(axis=0)
            end = np.concatenate((xyxy[place, 2:], xyxy[other, 2:])).reshape(2, 2).max(axis=0)
            xyxy[place] = np.concatenate((box, end))
    return Boxes(xyxy[kept], boxes.labels[kept], boxes.scores[kept])


def _tiles(rule: Rule) -> Rule:
    return lambda parts, views: rule(parts[1:], views[1:])


def _without_whole(parts: Sequence[Boxes], views: np.ndarray) -> Boxes:
    nothing = Boxes(parts[0].xyxy[:0], parts[0].labels[:0], parts[0].scores[:0])
    return merging.merged([nothing, *parts[1:]], views)


RULES: dict[str, Rule] = {
    "tiles, NMS by IoU": _tiles(by_nms),
    "tiles, NMS by share of the smaller": _tiles(lambda p, v: by_nms(p, v, smaller=True)),
    "tiles, greedy merging by share of the smaller": _tiles(by_greedy_nmm),
    "tiles, ours": _without_whole,
    "with the whole image, NMS by IoU": by_nms,
    "with the whole image, greedy merging by share of the smaller": by_greedy_nmm,
    "with the whole image, ours": merging.merged,
}


def average_precision(
    found: Sequence[Boxes], truths: Sequence[list[tuple[int, list[float]]]]
) -> list[float]:
    """COCO's AP and AP50, and AP of each class, with no limit of detections an image."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = [
        {"image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3]}
        for image, truth in enumerate(truths, 1)
        for label, box in truth
    ]
    labels = sorted({label for truth in truths for label, _ in truth})
    rows = [
        {"image_id": image, "category_id": label, "score": score, "bbox": [x, y, x1 - x, y1 - y]}
        for image, boxes in enumerate(found, 1)
        for (x, y, x1, y1), label, score in zip(
            boxes.xyxy.tolist(), boxes.labels.tolist(), boxes.scores.tolist(), strict=True
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(1, len(truths) + 1)],
            "annotations": [{"id": k, "iscrowd": 0, **a} for k, a in enumerate(annotations, 1)],
            "categories": [{"id": label, "name": str(label)} for label in labels],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.params.maxDets = [10_000]
        evaluation.evaluate()
        evaluation.accumulate()
    # [IoU, recall, class, area, limit]; -1 where there is no object
    precision = evaluation.eval["precision"][..., 0, 0]
    each = [float(precision[:, :, k].mean()) for k in range(len(labels))]
    return [float(precision.mean()), float(precision[0].mean()), *each]


def boxes_of(predictions: Sequence[Any]) -> Boxes:
    """Of SAHI's."""
    best = sorted(predictions, key=lambda p: -p.score.value)
    return Boxes(
        np.array([p.bbox.to_xyxy() for p in best], np.float32).reshape(-1, 4),
        np.array([p.category.id for p in best], np.int64),
        np.array([p.score.value for p in best], np.float32),
    )


def made_up(side: int, objects: int, tile: int, overlap: float) -> tuple[np.ndarray, list[Boxes]]:
    """The views of a square picture, and what a network would find of random objects of 10 to 300
    pixels: in each tile the part that it shows, a little off.
    """
    random = np.random.default_rng(0)
    views = tiling.views(side, side, tile, overlap)
    lefts = np.unique(views[1:, 0])
    middle = random.uniform(0, side, (objects, 2))
    half = np.exp(random.uniform(np.log(5), np.log(150), (objects, 2)))
    xyxy = np.hstack((middle - half, middle + half)).clip(0, side)
    labels, scores = random.integers(1, 4, objects), random.random(objects)
    first = np.searchsorted(lefts, xyxy[:, :2] - tile, side="right")
    last = np.searchsorted(lefts, xyxy[:, 2:], side="left")
    shown = [
        np.stack((where, (first[where, 1] + dy) * len(lefts) + first[where, 0] + dx + 1))
        for dy in range(int((last - first).max()))
        for dx in range(int((last - first).max()))
        for where in [np.flatnonzero((first + (dx, dy) < last).all(axis=1))]
    ]
    which, view = np.concatenate(shown, axis=1)
    places = views[view]
    off = xyxy[which] + random.normal(0, 1.5, (len(which), 4))
    off = (
        np.hstack((np.maximum(off[:, :2], places[:, :2]), np.minimum(off[:, 2:], places[:, 2:])))
        - places[:, [0, 1, 0, 1]]
    )
    score = (scores[which] + random.normal(0, 0.02, len(which))).clip(0.05, 1)
    order = np.lexsort((-score, view))
    order = order[((off[:, 2:] - off[:, :2]) > 3).all(axis=1)[order]]
    ends = np.searchsorted(view[order], np.arange(len(views) + 1))
    return views, [
        Boxes(off[part].astype(np.float32), labels[which[part]], score[part].astype(np.float32))
        for start, stop in zip(ends, ends[1:], strict=False)
        for part in [order[start:stop]]
    ]
