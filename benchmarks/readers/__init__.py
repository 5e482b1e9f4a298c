"""Programs that are not ours, reading an export. Nothing in here needs the project's packages."""

from __future__ import annotations

import csv
import os
from typing import Any

# name without suffix -> [label, xmin, ymin, xmax, ymax, score] of each box, corners in pixels;
# the score is None where a reader drops it
Found = dict[str, list[list[Any]]]


def stem(name: str) -> str:
    return os.path.splitext(name)[0]


def names(folder: str) -> dict[int, str]:
    """Image id to name."""
    with open(f"{folder}/images.csv", encoding="utf-8", newline="") as file:
        return {int(row["image_id"]): stem(row["name"]) for row in csv.DictReader(file)}
