"""COCO box metrics of an output against ground truth."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
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

Metrics = dict[str, float | None]


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
    categories = []
    for k, (name, category) in enumerate(truth.category_ids.items()):
        mine = (truth.box_categories == category) & ~truth.crowds & (ids[truth.image_places] > 0)
        counts = {
            "ground_truth": int(np.count_nonzero(mine)),
            "detections": int(np.count_nonzero(matched.found["category"] == category)),
        }
        rates = _metrics(precision[:, :, k : k + 1], recall[:, k : k + 1])
        categories.append({"name": name, "id": category, **counts, **rates})
    beyond = _beyond_limit(matched.found)
    return Evaluation(_metrics(precision, recall), categories, len(order), beyond, backend)


def _beyond_limit(found: np.ndarray) -> int:
    pairs = np.stack((found["place"], found["category"]))
    pairs = pairs[:, np.lexsort(pairs)]
    starts = np.flatnonzero(np.diff(pairs, prepend=-1).any(axis=0))
    counts = np.diff(starts, append=pairs.shape[1])
    return int(np.maximum(counts - MAX_DETECTIONS[-1], 0).sum())


def _sortable(image_id: Any) -> tuple[bool, Any]:
    return (isinstance(image_id, str), image_id)


def _accumulate(
    truth: Truth, found: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str]:
    """precision [10 IoUs, 101, categories, 4 sizes, 3 limits], recall likewise without the 101.

    A few categories at a time, through a file: all boxes at once, or as Python objects, would not
    fit in memory where there are millions.
    """
    precisions, recalls, backend = [], [], ""
    with tempfile.TemporaryDirectory() as folder:
        for group in _groups(truth, found):
            path = f"{folder}/truth.json"
            _write(truth, ids, group, path)
            mine = np.isin(found["category"], group)
            with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
                # not kept in a name: the package has its own copy, and there may be gigabytes
                done, backend = _coco_eval(path, _results(found[mine], ids))
                done.evaluate()
                done.accumulate()
            precisions.append(done.eval["precision"])
            recalls.append(done.eval["recall"])
            del done  # before the next group's boxes are read
    return np.concatenate(precisions, axis=2), np.concatenate(recalls, axis=1), backend


def _results(found: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """[n, 7] float64: image id, x, y, width, height, score, category id."""
    results = np.empty((len(found), 7))
    results[:, 0] = ids[found["place"]]
    results[:, 1:5] = found["xyxy"]
    results[:, 3:5] -= results[:, 1:3]
    results[:, 5], results[:, 6] = found["score"], found["category"]
    return results


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


def _write(truth: Truth, ids: np.ndarray, group: list[int], path: str) -> None:
    """The truth of some categories as instances JSON; images whose new id is 0 left out."""
    images = ", ".join(f'{{"id": {i}}}' for i in range(1, int(ids.max(initial=0)) + 1))
    categories = [{"id": k, "name": str(k)} for k in group]
    image_ids = ids[truth.image_places]
    wanted = np.flatnonzero(np.isin(truth.box_categories, group) & (image_ids > 0))
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'{{"images": [{images}], "categories": {json.dumps(categories)}, ')
        file.write('"annotations": [')
        separator = ""
        for number in wanted.tolist():
            box = {
                "id": number + 1,
                "image_id": int(image_ids[number]),
                "category_id": int(truth.box_categories[number]),
                "bbox": truth.xywh[number].tolist(),
                "area": float(truth.areas[number]),
                "iscrowd": int(truth.crowds[number]),
            }
            file.write(separator + json.dumps(box))
            separator = ",\n"
        file.write("]}")


def _coco_eval(path: str, results: np.ndarray) -> tuple[Any, str]:
    """A COCOeval of one of the packages that have it, and the package's name."""
    try:
        import hotcoco
    except ImportError:
        return _pycocotools(path, results), "pycocotools"
    truth = hotcoco.COCO(path)
    evaluation = hotcoco.COCOeval(truth, truth.load_res(results), "bbox")
    return evaluation, f"hotcoco {hotcoco.__version__}"


def _pycocotools(path: str, results: np.ndarray) -> Any:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UsageError(
            "evaluation needs the package hotcoco or pycocotools: pip install hotcoco"
        ) from error
    truth = COCO(path)
    found = COCO()
    if len(results):
        found = truth.loadRes(results)
    else:  # loadRes fails on an empty list
        found.dataset = {**truth.dataset, "annotations": []}
        found.createIndex()
    return COCOeval(truth, found, "bbox")


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
