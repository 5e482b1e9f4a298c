"""The threshold of the best F1, beside what pycocotools matches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.labels import thresholds
from pipeline.labels.annotations import load_truth
from pipeline.labels.match import FOUND, Matched
from pipeline.labels.thresholds import best_thresholds
from pipeline.labels.truth import Truth


def boxes(random: np.random.Generator, number: int) -> np.ndarray:
    """[n, 4] xywh of a crowded 100x100 image, so that several overlap enough."""
    corner, size = random.integers(0, 60, (number, 2)), random.integers(15, 40, (number, 2))
    return np.concatenate([corner, size], axis=1).astype(np.float64)


def scene(path: Path, seed: int) -> tuple[Truth, Matched, list[dict[str, Any]]]:
    """Annotations, some of them crowds, of four images, and detections as both sides want them."""
    random = np.random.default_rng(seed)
    annotations, results = [], []
    for image in (1, 2, 3, 4):
        for category in (3, 7):
            for number, box in enumerate(boxes(random, 6 if image < 4 else 0).tolist()):
                entry = {"image_id": image, "category_id": category, "bbox": box}
                annotations.append(entry | {"area": box[2] * box[3], "iscrowd": int(number == 5)})
            for box in boxes(random, 15).tolist():
                score = float(np.float32(random.integers(0, 101) / 100))
                entry = {"image_id": image, "category_id": category, "bbox": box}
                results.append(entry | {"score": score})
    results.sort(key=lambda entry: (entry["image_id"], -entry["score"]))  # as a run has them
    content = {
        "images": [{"id": k, "file_name": f"{k}.jpg"} for k in (1, 2, 3, 4)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [entry | {"id": n} for n, entry in enumerate(annotations, 1)],
    }
    path.write_text(json.dumps(content))
    truth = load_truth(str(path))
    matched = Matched(truth, True)
    matched.found = np.array(
        [
            (
                r["image_id"] - 1,
                np.add(r["bbox"], [0, 0, *r["bbox"][:2]]),
                r["score"],
                r["category_id"],
            )
            for r in results
        ],
        FOUND,
    )
    return truth, matched, results


def reference(path: Path, results: list[dict[str, Any]], category: int) -> tuple[float, ...]:
    """Threshold, precision, recall and F1 by counting what pycocotools matched."""
    truth = COCO(str(path))
    done = COCOeval(truth, truth.loadRes(results), "bbox")
    done.params.iouThrs, done.params.maxDets = np.array([0.5]), [1000]
    done.params.areaRng, done.params.areaRngLbl = [[0, 1e10]], ["all"]
    done.params.catIds = [category]
    done.evaluate()
    images = [image for image in done.evalImgs if image]
    scores = np.concatenate([image["dtScores"] for image in images])
    right = np.concatenate([image["dtMatches"][0] > 0 for image in images])
    ignored = np.concatenate([image["dtIgnore"][0] for image in images]).astype(bool)
    number = sum(np.count_nonzero(np.logical_not(image["gtIgnore"])) for image in images)
    best = (0.0, 0.0, 0.0, 0.0)
    for step in range(101):
        kept = (scores >= np.float32(step / 100)) & ~ignored
        hits = np.count_nonzero(right & kept)
        f1 = 2 * hits / (np.count_nonzero(kept) + number)
        if hits and f1 >= best[3]:
            best = (step / 100, hits / np.count_nonzero(kept), hits / number, f1)
    return best


@pytest.mark.parametrize("pairs", [thresholds.AT_ONCE, 7])
@pytest.mark.parametrize("seed", range(5))
def test_as_pycocotools_matches(
    tmp_path: Path, seed: int, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thresholds, "AT_ONCE", pairs)
    truth, matched, results = scene(tmp_path / "gt.json", seed)
    found = best_thresholds(truth, matched, present_only=False)
    for name, category in truth.category_ids.items():
        at = found[name]
        expected = reference(tmp_path / "gt.json", results, category)
        assert (at.threshold, at.precision, at.recall, at.f1) == pytest.approx(expected)


def test_without_what_is_absent_or_found(tmp_path: Path) -> None:
    truth, matched, _ = scene(tmp_path / "gt.json", 0)
    matched.uris = ["a", None, "c", "d"]
    matched.found = matched.found[matched.found["place"] != 1]
    every = best_thresholds(truth, matched, present_only=False)
    present = best_thresholds(truth, matched, present_only=True)
    assert present["cat"].recall == pytest.approx(every["cat"].recall * 15 / 10)
    matched.found = matched.found[matched.found["category"] == 7]
    assert list(best_thresholds(truth, matched, present_only=True)) == ["dog"]
