"""Large images made of small ones: what rules of merging and sizes of tiles make of their boxes."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import stats

from benchmarks.tile_rules import OURS, RULES
from pipeline.images import tiling
from pipeline.network.contract import Boxes, Weights
from pipeline.network.engine import Engine

Truth = list[tuple[int, list[float]]]
SIDE = 3  # a mosaic is so many images wide and high
SHORT = 800  # pixels of the short side to which torchvision shrinks an image
LEVEL = 0.95  # of intervals


def pictures(given: argparse.Namespace) -> Iterator[tuple[np.ndarray, Truth]]:
    """Each annotated image, with (label, xywh) of its objects that have an area."""
    content = json.loads(Path(given.annotations).read_text())
    for image in content["images"]:
        pixels = np.asarray(Image.open(given.images / image["file_name"]).convert("RGB"))
        yield (
            pixels,
            [
                (a["category_id"], a["bbox"])
                for a in content["annotations"]
                if a["image_id"] == image["id"] and min(a["bbox"][2:]) > 0
            ],
        )


def mosaics(given: argparse.Namespace) -> Iterator[tuple[np.ndarray, Truth]]:
    """Images in random order, `SIDE` ** 2 of them as one; each is in one mosaic at most."""
    parts = list(pictures(given))
    order = np.random.default_rng(0).permutation(len(parts))
    height, width = parts[0][0].shape[:2]
    for start in range(0, min(len(parts), given.mosaics * SIDE**2) - SIDE**2 + 1, SIDE**2):
        whole = np.zeros((SIDE * height, SIDE * width, 3), np.uint8)
        truth: Truth = []
        for place, number in enumerate(order[start : start + SIDE**2]):
            y, x = place // SIDE * height, place % SIDE * width
            pixels, objects_there = parts[number]
            whole[y : y + height, x : x + width] = pixels
            truth += [(label, [a + x, b + y, w, h]) for label, (a, b, w, h) in objects_there]
        yield whole, truth


def found_in(engine: Engine, pixels: np.ndarray, views: np.ndarray) -> list[Boxes]:
    return [engine([pixels[y0:y1, x0:x1]])[0] for x0, y0, x1, y1 in views.tolist()]


def measure(given: argparse.Namespace, weights: Weights) -> None:
    """A table of all rules for each tile and overlap."""
    engine = Engine(weights, "cpu", given.threads, "fp32")
    made = list(mosaics(given))
    height, width = made[0][0].shape[:2]
    truths, small = [truth for _, truth in made], (32 * min(height, width) / SHORT) ** 2
    count = sum(w * h < small for truth in truths for _, (_, _, w, h) in truth)
    print(
        f"{len(made)} mosaics of {width}x{height}, {sum(map(len, truths))} objects, {count} "
        f"of them small: below {small:.0f} pixels"
    )
    for tile in given.tile:
        for overlap in given.overlap:
            views = tiling.views(height, width, tile, overlap)
            parts = [
                _remembered(given, f"{tile}-{overlap:g}-{number}", engine, pixels, views)
                for number, (pixels, _) in enumerate(made)
            ]
            print(f"tiles of {tile}, overlap {overlap:g}: {len(views) - 1} each", flush=True)
            _table(parts, views, truths, small)


def _remembered(
    given: argparse.Namespace, name: str, engine: Engine, pixels: np.ndarray, views: np.ndarray
) -> list[Boxes]:
    """`found_in`, or what it gave an earlier run with the same weights and images."""
    if not given.cache:
        return found_in(engine, pixels, views)
    path = given.cache / f"{name}.npz"
    if not path.exists():
        found = found_in(engine, pixels, views)
        ends = np.cumsum([len(boxes.labels) for boxes in found])[:-1]
        given.cache.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            ends=ends,
            xyxy=np.concatenate([boxes.xyxy for boxes in found]),
            labels=np.concatenate([boxes.labels for boxes in found]),
            scores=np.concatenate([boxes.scores for boxes in found]),
        )
    stored = np.load(path)
    columns = [np.split(stored[name], stored["ends"]) for name in ("xyxy", "labels", "scores")]
    return [Boxes(*values) for values in zip(*columns, strict=True)]


def _table(
    parts: list[list[Boxes]], views: np.ndarray, truths: Sequence[Truth], small: float
) -> None:
    found = {"the whole image alone": [each[0] for each in parts]}
    found |= {name: [rule(each, views) for each in parts] for name, rule in RULES.items()}
    scores = {name: average_precision(boxes, truths, small) for name, boxes in found.items()}
    for name, score in scores.items():
        cells = [f"{value:.3f}" for value in (score.ap, score.ap50, score.small, *score.classes)]
        difference = score.images - scores[OURS].images
        middle, half = difference.mean(), _half_width(difference)
        cells += [f"{middle:+.3f} ({middle - half:+.3f} to {middle + half:+.3f})"]
        boxes = sum(len(each.labels) for each in found[name])
        print(f"| {name} | {' | '.join(cells)} | {boxes} |", flush=True)


def _half_width(values: np.ndarray) -> float:
    """Of Student's interval of a mean."""
    spread = values.std(ddof=1) / np.sqrt(len(values))
    return float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * spread)


@dataclass(frozen=True)
class Score:
    """COCO's AP with no limit of detections an image.

    Attributes:
        ap, ap50, small: of all images together; `small` of objects below an area.
        classes: AP of each.
        images: [N] AP of each image.
    """

    ap: float
    ap50: float
    small: float
    classes: list[float]
    images: np.ndarray


def average_precision(found: Sequence[Boxes], truths: Sequence[Truth], small: float) -> Score:
    precision = _precision(found, truths, small)
    everything = precision[..., 0]
    classes = [_mean(everything[:, :, k]) for k in range(everything.shape[2])]
    images = [
        _mean(_precision([boxes], [truth], small)[..., 0])
        for boxes, truth in zip(found, truths, strict=True)
    ]
    ap, ap50 = _mean(everything), _mean(everything[0])
    return Score(ap, ap50, _mean(precision[..., 1]), classes, np.array(images))


def _precision(found: Sequence[Boxes], truths: Sequence[Truth], small: float) -> np.ndarray:
    """[IoU, recall, class, area], COCO's; areas are all and small ones; -1 without an object."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rows = [
        {"image_id": image, "category_id": label, "score": score, "bbox": [x, y, x1 - x, y1 - y]}
        for image, boxes in enumerate(found, 1)
        for (x, y, x1, y1), label, score in zip(
            boxes.xyxy.tolist(), boxes.labels.tolist(), boxes.scores.tolist(), strict=True
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = _dataset(truths)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.params.maxDets = [10_000]
        evaluation.params.areaRng = [[0, 1e10], [0, small]]
        evaluation.params.areaRngLbl = ["all", "small"]
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"][..., 0])


def _dataset(truths: Sequence[Truth]) -> dict[str, object]:
    annotations = [
        {"image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3]}
        for image, truth in enumerate(truths, 1)
        for label, box in truth
    ]
    labels = sorted({label for truth in truths for label, _ in truth})
    return {
        "info": {},
        "images": [{"id": image} for image in range(1, len(truths) + 1)],
        "annotations": [{"id": k, "iscrowd": 0, **a} for k, a in enumerate(annotations, 1)],
        "categories": [{"id": label, "name": str(label)} for label in labels],
    }


def _mean(precision: np.ndarray) -> float:
    return float(precision[precision > -1].mean())
