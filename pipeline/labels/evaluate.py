"""COCO box metrics of an output against ground truth."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import UsageError
from pipeline.labels.match import Matched
from pipeline.labels.truth import Truth

# the twelve of COCO: name, IoU threshold (None: mean over 0.50 to 0.95), size, detections an image
METRICS = {
    "AP": ("precision", None, "all", 100),
    "AP50": ("precision", 0.5, "all", 100),
    "AP75": ("precision", 0.75, "all", 100),
    "AP_small": ("precision", None, "small", 100),
    "AP_medium": ("precision", None, "medium", 100),
    "AP_large": ("precision", None, "large", 100),
    "AR1": ("recall", None, "all", 1),
    "AR10": ("recall", None, "all", 10),
    "AR100": ("recall", None, "all", 100),
    "AR_small": ("recall", None, "small", 100),
    "AR_medium": ("recall", None, "medium", 100),
    "AR_large": ("recall", None, "large", 100),
}
IOUS = np.linspace(0.5, 0.95, 10)
SIZES = ("all", "small", "medium", "large")
MAX_DETECTIONS = (1, 10, 100)
GROUP_BOXES = 2_000_000
BATCH_IMAGES = 1000

Metrics = dict[str, float | None]
Entry = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """COCO's metrics; None where there is nothing to measure.

    Attributes:
        metrics: by the names of `METRICS`.
        categories: for each category of the truth its name, id, numbers of boxes in the truth
            (crowds left out) and of detections, and the same metrics.
        images: number of images that were evaluated.
        beyond_limit: number of detections that do not count, since an image has more than 100 of
            their category; tiles find as many.
        backend: the package that matched the boxes, and its version.
    """

    metrics: Metrics
    categories: list[dict[str, Any]]
    images: int
    beyond_limit: int
    backend: str


def evaluate(truth: Truth, matched: Matched, present_only: bool = False) -> Evaluation:
    """
    Args:
        truth: the annotations.
        matched: detections, as from `match`.
        present_only: leave out the truth's images of which the run has no row. Otherwise nothing
            was found there.

    Raises:
        UsageError: no package that can do it is installed.
    """
    absent = set(matched.absent) if present_only else set()
    # as pycocotools orders images, since that decides between equal scores; ids from 1, since it
    # takes a match with annotation 0 for none
    order = sorted(range(len(truth.ids)), key=lambda place: _sortable(truth.ids[place]))
    order = [place for place in order if place not in absent]
    ids = np.zeros(len(truth.ids), np.int64)
    ids[order] = np.arange(1, len(order) + 1)
    precision, recall, backend = _accumulate(truth, matched.found, ids)
    categories, beyond = [], 0
    for k, (name, category) in enumerate(truth.category_ids.items()):
        mine = (truth.box_categories == category) & ~truth.crowds & (ids[truth.image_places] > 0)
        places = matched.found["place"][matched.found["category"] == category]
        counts = {"ground_truth": int(np.count_nonzero(mine)), "detections": len(places)}
        rates = _metrics(precision[:, :, k : k + 1], recall[:, k : k + 1])
        categories.append({"name": name, "id": category, **counts, **rates})
        beyond += int(np.maximum(np.bincount(places) - MAX_DETECTIONS[-1], 0).sum())
    return Evaluation(_metrics(precision, recall), categories, len(order), beyond, backend)


def _sortable(image_id: Any) -> tuple[bool, Any]:
    return (isinstance(image_id, str), image_id)


def _accumulate(
    truth: Truth, found: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str]:
    """precision [10 IoUs, 101, categories, 4 sizes, 3 limits], recall likewise without the 101.

    A few categories at a time: what is kept of all boxes would not fit in memory where there are
    millions.
    """
    precisions, recalls, backend = [], [], ""
    for group in _groups(truth, found):
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
            done, backend = _evaluated(truth, found, ids, group)
            done.accumulate()
        precisions.append(done.eval["precision"])
        recalls.append(done.eval["recall"])
        del done  # before the next group's boxes are read
    return np.concatenate(precisions, axis=2), np.concatenate(recalls, axis=1), backend


def _groups(truth: Truth, found: np.ndarray) -> list[list[int]]:
    """The category ids in order, in groups that have about `GROUP_BOXES` boxes."""
    groups: list[list[int]] = [[]]
    boxes = 0
    for category in truth.category_ids.values():
        mine = np.count_nonzero(found["category"] == category)
        mine += np.count_nonzero(truth.box_categories == category)
        if groups[-1] and boxes + mine > GROUP_BOXES:
            groups.append([])
            boxes = 0
        groups[-1].append(category)
        boxes += int(mine)
    return groups


def _evaluated(
    truth: Truth, found: np.ndarray, ids: np.ndarray, group: list[int]
) -> tuple[Any, str]:
    """A COCOeval of some categories, matched, by one of the packages that have it, and its name."""
    categories = [{"id": k, "name": str(k)} for k in group]
    try:
        import hotcoco
    except ImportError:
        return _pycocotools(categories, *next(_batches(truth, found, ids, group, len(ids))))
    streaming = hotcoco.StreamingEval(categories, "bbox")
    for batch in _batches(truth, found, ids, group, BATCH_IMAGES):
        streaming.update(*batch)
    return streaming.finalize(), f"hotcoco {hotcoco.__version__}"


def _pycocotools(
    categories: list[Entry], images: list[Entry], annotations: list[Entry], results: np.ndarray
) -> tuple[Any, str]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UsageError(
            "evaluation needs the package hotcoco or pycocotools: pip install hotcoco"
        ) from error
    truth, found = COCO(), COCO()
    truth.dataset = {"images": images, "categories": categories, "annotations": annotations}
    truth.createIndex()
    if len(results):
        found = truth.loadRes(results)
    else:  # loadRes fails on an empty list
        found.dataset = {**truth.dataset, "annotations": []}
        found.createIndex()
    done = COCOeval(truth, found, "bbox")
    done.evaluate()
    return done, "pycocotools"


def _batches(
    truth: Truth, found: np.ndarray, ids: np.ndarray, group: list[int], size: int
) -> Iterator[tuple[list[Entry], list[Entry], np.ndarray]]:
    """Images, annotations and results of some categories, `size` images at a time; those whose new
    id is 0 left out.
    """
    true_boxes, true_ids = _by_image(ids[truth.image_places], truth.box_categories, group)
    boxes, box_ids = _by_image(ids[found["place"]], found["category"], group)
    last = int(ids.max(initial=0))
    for first in range(1, last + 1, size):
        span = (first, first + size)
        images = [{"id": image_id} for image_id in range(first, min(first + size, last + 1))]
        annotations = [
            _annotation(truth, ids, number)
            for number in true_boxes[slice(*np.searchsorted(true_ids, span))].tolist()
        ]
        results = _results(found[boxes[slice(*np.searchsorted(box_ids, span))]], ids)
        yield images, annotations, results


def _by_image(
    image_ids: np.ndarray, categories: np.ndarray, group: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the boxes of some categories in order of their images, and the images' ids."""
    places = np.flatnonzero(np.isin(categories, group) & (image_ids > 0))
    places = places[np.argsort(image_ids[places], kind="stable")]
    return places, image_ids[places]


def _annotation(truth: Truth, ids: np.ndarray, number: int) -> Entry:
    return {
        "id": number + 1,
        "image_id": int(ids[truth.image_places[number]]),
        "category_id": int(truth.box_categories[number]),
        "bbox": truth.xywh[number].tolist(),
        "area": float(truth.areas[number]),
        "iscrowd": int(truth.crowds[number]),
    }


def _results(found: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """[n, 7] float64: image id, x, y, width, height, score, category id."""
    results = np.empty((len(found), 7))
    results[:, 0] = ids[found["place"]]
    results[:, 1:5] = found["xyxy"]
    results[:, 3:5] -= results[:, 1:3]
    results[:, 5], results[:, 6] = found["score"], found["category"]
    return results


def _metrics(precision: np.ndarray, recall: np.ndarray) -> Metrics:
    """The twelve, as COCOeval.summarize computes them."""
    found: Metrics = {}
    for name, (kind, iou, size, limit) in METRICS.items():
        values = precision if kind == "precision" else recall
        values = values[..., SIZES.index(size), MAX_DETECTIONS.index(limit)]
        if iou is not None:
            values = values[np.isclose(IOUS, iou)]
        values = values[values > -1]
        found[name] = float(np.mean(values)) if values.size else None
    return found
