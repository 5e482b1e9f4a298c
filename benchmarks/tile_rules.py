"""Rules of merging beside ours, and made-up boxes to merge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.bench.matching import iou
from pipeline.images import tiling
from pipeline.network.contract import Boxes
from pipeline.stages import merging

LEAST = 0.05  # of the network's scores
SIGMA = 0.5
FUSED = 0.55

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


def by_soft_nms(parts: Sequence[Boxes], views: np.ndarray) -> Boxes:
    """Soft-NMS (Bodla et al. 2017) with the Gaussian of its authors: what overlaps a better box
    loses score, and goes below the network's own threshold.
    """
    boxes = _all(parts, views)
    over, scores = _overlaps(boxes, smaller=False), boxes.scores.astype(float)
    waiting, order = np.ones(len(over), bool), []
    while waiting.any():
        best = int(np.where(waiting, scores, -1).argmax())
        if scores[best] < LEAST:
            break
        order.append(best)
        waiting[best] = False
        scores[waiting] *= np.exp(-(over[best, waiting] ** 2) / SIGMA)
    return Boxes(boxes.xyxy[order], boxes.labels[order], scores[order].astype(np.float32))


def by_weighted_fusion(parts: Sequence[Boxes], views: np.ndarray) -> Boxes:
    """Weighted boxes fusion (Solovyev et al. 2021), with the best score of a cluster: a mean would
    punish what one of its tiles hardly shows.
    """
    boxes = _all(parts, views)
    fused, sums, first = np.empty((0, 4)), np.empty(0), np.empty(0, int)
    for place, (box, score) in enumerate(zip(boxes.xyxy, boxes.scores, strict=True)):
        shares = iou(box[None], fused)[0] * (boxes.labels[first] == boxes.labels[place])
        if len(fused) and shares.max() > FUSED:
            of = int(shares.argmax())
            fused[of] = (fused[of] * sums[of] + box * score) / (sums[of] + score)
            sums[of] += score
        else:
            fused, sums = np.vstack((fused, box)), np.append(sums, score)
            first = np.append(first, place)
    return Boxes(fused.astype(np.float32), boxes.labels[first], boxes.scores[first])


def by_centre(parts: Sequence[Boxes], views: np.ndarray) -> Boxes:
    """Of each box only that of the tile whose middle is nearest to its own, then NMS by IoU."""
    middles = (views[:, :2] + views[:, 2:]) / 2
    kept = []
    for number, (part, view) in enumerate(zip(parts, views, strict=True)):
        centre = (part.xyxy[:, :2] + part.xyxy[:, 2:]) / 2 + view[:2]
        far = abs(centre[:, None] - middles).max(axis=2)
        kept.append(_only(part, far.argmin(axis=1) == number))
    return by_nms(kept, views)


def without_cut(parts: Sequence[Boxes], views: np.ndarray) -> Boxes:
    """Without the boxes that end at a border of their tile inside the image, then NMS by IoU."""
    ends = np.concatenate((views[:, :2].min(axis=0), views[:, 2:].max(axis=0)))
    kept = []
    for part, view in zip(parts, views, strict=True):
        shown = view - view[[0, 1, 0, 1]]
        near = abs(part.xyxy - shown) <= merging.NEAR_PIXELS
        kept.append(_only(part, ~(near & (view != ends)).any(axis=1)))
    return by_nms(kept, views)


def _only(boxes: Boxes, which: np.ndarray) -> Boxes:
    return Boxes(boxes.xyxy[which], boxes.labels[which], boxes.scores[which])


def _tiles(rule: Rule) -> Rule:
    return lambda parts, views: rule(parts[1:], views[1:])


def _without_whole(parts: Sequence[Boxes], views: np.ndarray) -> Boxes:
    return merging.merged(
        [_only(parts[0], np.zeros(len(parts[0].labels), bool)), *parts[1:]], views
    )


def _soft_then_ours(parts: Sequence[Boxes], views: np.ndarray) -> Boxes:
    return merging.merged([by_soft_nms([part], views[:1]) for part in parts], views)


def _ours_then_soft(parts: Sequence[Boxes], views: np.ndarray) -> Boxes:
    return by_soft_nms([merging.merged(parts, views)], views[:1])


OURS = "with the whole image, ours"
RULES: dict[str, Rule] = {
    "tiles, NMS by IoU": _tiles(by_nms),
    "tiles, NMS by share of the smaller": _tiles(lambda p, v: by_nms(p, v, smaller=True)),
    "tiles, greedy merging by share of the smaller": _tiles(by_greedy_nmm),
    "tiles, Soft-NMS": _tiles(by_soft_nms),
    "tiles, weighted boxes fusion": _tiles(by_weighted_fusion),
    "tiles, the one with the nearest middle": _tiles(by_centre),
    "tiles, no cut boxes, NMS by IoU": _tiles(without_cut),
    "tiles, ours": _without_whole,
    "with the whole image, NMS by IoU": by_nms,
    "with the whole image, greedy merging by share of the smaller": by_greedy_nmm,
    OURS: merging.merged,
    "Soft-NMS of each view, then ours": _soft_then_ours,
    "ours, then Soft-NMS": _ours_then_soft,
}


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
