"""Reviews with a known truth: how probable it is that a box is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.labels.calibration import Calibration, Claim, Curve, Group, encode
from pipeline.labels.guarantee import Reviewed
from tests.support import synthetic
from tests.support.instances import CONTIGUOUS


def probability(scores: np.ndarray) -> np.ndarray:
    """Of being right: not what the scores say."""
    found: np.ndarray = 0.3 + 0.7 * np.sqrt(scores)
    return found


def calibration(path: Path, thresholds: dict[str, float | None]) -> str:
    """Write a calibration of a synthetic output, in which a score means half as much.

    Args:
        path: file to be written.
        thresholds: of each category, which is a group of its own.
    """
    curve = Curve(np.array([0.0, 1.0]), np.array([0.0, 0.5]))
    labels = {name: label for label, name in synthetic.CATEGORIES.items()}
    groups = [
        Group(name, [name], [labels[name]], 400, 200, 0.0, 0.25, 0.01, curve, threshold, 0.1)
        for name, threshold in thresholds.items()
    ]
    path.write_bytes(
        encode(
            Calibration(
                output="out",
                run_id=synthetic.RUN_ID,
                weights_sha256=str(synthetic.DETECTOR["weights_sha256"]),
                corrections="review.json",
                claim=Claim(0.9, 0.95),
                reviewed=50,
                images=100,
                groups=groups,
                overall=groups[0],
            )
        )
    )
    return str(path)


def draw(random: np.random.Generator, images: int, together: float) -> Reviewed:
    """The boxes of a run, and whether they are right.

    Args:
        random: decides all.
        images: number of them, with 13 boxes on average.
        together: how much the boxes of one image have in common: standard deviation of the
            image's own addition to the logit.
    """
    numbers = random.poisson(13 * random.gamma(4, 1 / 4, images))
    owners = np.repeat(np.arange(images), numbers)
    scores = random.beta(2, 0.7, len(owners)).astype(np.float32)
    chances = np.clip(probability(scores), 0.001, 0.999)
    logits = np.log(chances / (1 - chances)) + random.normal(0, together, images)[owners]
    right = random.random(len(owners)) < 1 / (1 + np.exp(-logits))
    return Reviewed(scores, right, owners)


def corrections(
    path: Path, found: list[dict[str, Any]], images: int, seed: int = 0
) -> dict[int, list[bool]]:
    """Write what a person has left of the boxes of some rows, drawn at random, as instances JSON.

    Args:
        path: file to be written.
        found: all rows of an output.
        images: number to draw from those that are ok.
        seed: decides all.

    Returns:
        Whether each box of each row that is ok is right, by `image_id`.
    """
    random = np.random.default_rng(seed)
    ok = [row for row in found if row["status"] == "ok"]
    right = {
        row["image_id"]: [
            bool(random.random() < probability(box["score"])) for box in row["detections"]
        ]
        for row in ok
    }
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in random.permutation(len(ok))[:images].tolist():
        row = ok[number]
        listed.append({"id": number, "file_name": row["image_uri"].rpartition("/")[2]})
        for box, is_right in zip(row["detections"], right[row["image_id"]], strict=True):
            corner = [box["xmin"], box["ymin"]]
            size = [box["xmax"] - box["xmin"], box["ymax"] - box["ymin"]]
            entry = {"image_id": number, "category_id": CONTIGUOUS[box["label"]]}
            if is_right:
                annotations.append(entry | {"id": len(annotations), "bbox": [*corner, *size]})
    categories = [{"id": k, "name": name} for name, k in CONTIGUOUS.items()]
    content = {"images": listed, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return right
