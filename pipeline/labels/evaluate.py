"""COCO box metrics of an output against ground truth."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config import UsageError
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

Metrics = dict[str, float | None]


@dataclass(frozen=True)
class Evaluation:
    """COCO's metrics; None where there is nothing to measure.

    Attributes:
        metrics: by the names of `METRICS`.
        categories: for each category of the truth its name, id, numbers of boxes in the truth
            (crowds left out) and of detections, and the same metrics.
        images: number of images that were evaluated.
        backend: the package that matched the boxes, and its version.
    """

    metrics: Metrics
    categories: list[dict[str, Any]]
    images: int
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
    results = matched.results.copy()
    results[:, 0] = ids[results[:, 0].astype(np.int64)]
    precision, recall, backend = _accumulate(_dataset(truth, ids), results)
    categories = []
    for k, (name, category) in enumerate(truth.category_ids.items()):
        mine = (truth.box_categories == category) & ~truth.crowds & (ids[truth.image_places] > 0)
        counts = {
            "ground_truth": int(np.count_nonzero(mine)),
            "detections": int(np.count_nonzero(results[:, 6] == category)),
        }
        rates = _metrics(precision[:, :, k : k + 1], recall[:, k : k + 1])
        categories.append({"name": name, "id": category, **counts, **rates})
    return Evaluation(_metrics(precision, recall), categories, len(order), backend)


def _sortable(image_id: Any) -> tuple[bool, Any]:
    return (isinstance(image_id, str), image_id)


def _dataset(truth: Truth, ids: np.ndarray) -> dict[str, Any]:
    boxes = zip(
        ids[truth.image_places].tolist(), truth.box_categories.tolist(), truth.xywh.tolist(),
        truth.areas.tolist(), truth.crowds.tolist(), strict=True,
    )  # fmt: skip
    annotations = [
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area,
         "iscrowd": int(crowd)}
        for number, (image, category, box, area, crowd) in enumerate(boxes, start=1)
        if image
    ]  # fmt: skip
    return {
        "images": [{"id": i} for i in range(1, int(ids.max(initial=0)) + 1)],
        "categories": [{"id": k, "name": name} for name, k in truth.category_ids.items()],
        "annotations": annotations,
    }


def _accumulate(dataset: dict[str, Any], results: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """precision [10 IoUs, 101, categories, 4 sizes, 3 limits], recall likewise without the 101."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
        try:
            import hotcoco

            backend = f"hotcoco {hotcoco.__version__}"
            truth = hotcoco.COCO(dataset)
            done = hotcoco.COCOeval(truth, truth.load_res(results), "bbox")
        except ImportError:
            done, backend = _pycocotools(dataset, results)
        done.evaluate()
        done.accumulate()
    assert done.eval
    return done.eval["precision"], done.eval["recall"], backend


def _pycocotools(dataset: dict[str, Any], results: np.ndarray) -> tuple[Any, str]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UsageError(
            "evaluation needs the package hotcoco or pycocotools: pip install 'prelabel[eval]'"
        ) from error
    truth = COCO()
    truth.dataset = dataset
    truth.createIndex()
    found = COCO()
    if len(results):
        found = truth.loadRes(results)
    else:  # loadRes fails on an empty list
        found.dataset = {**dataset, "annotations": []}
        found.createIndex()
    return COCOeval(truth, found, "bbox"), "pycocotools"


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
