"""A second output over the same images, as another network would have made it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import outputs, photographed

KINDS = ("same", "moved", "relabelled", "fell", "only_a", "only_b", "rose")


def changed(rows: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """The rows with some of their boxes moved, relabelled, lost, of another score, and new ones."""
    random = np.random.default_rng(seed)
    rows = copy.deepcopy(rows)
    labels = list(photographed.CATEGORIES.items())
    for row in rows:
        if row["detections"] is None:
            continue
        found = []
        for box in row["detections"]:
            kind = KINDS[random.integers(len(KINDS))]
            width, height = box["xmax"] - box["xmin"], box["ymax"] - box["ymin"]
            if kind == "moved":
                box["xmin"] += width * 0.1
                box["ymax"] -= height * 0.1
            elif kind == "relabelled":
                others = [label for label in labels if label[1] != box["label"]]
                box["label_id"], box["label"] = others[random.integers(len(others))]
            elif kind in ("fell", "rose"):
                box["score"] = float(np.clip(1 - box["score"], 0.06, 1))
            elif kind == "only_b":
                new = copy.deepcopy(box)
                new["xmin"] += width * 0.6
                found.append(new)
            if kind != "only_a":
                found.append(box)
        row["detections"] = sorted(found, key=lambda box: -box["score"])
        row["num_detections"] = len(found)
    return rows


def write(output: Path, of: Path) -> Path:
    """Write an output that has changed from another one, and stands beside it."""
    rows = changed(outputs.rows(str(of)))
    photographed.write_output(output, rows, str(of.parent / "images"), trained=True)
    return output
