"""Ground truth for outputs: what a person might have drawn near the boxes that were found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import synthetic

# ids of `synthetic`'s categories
CONTIGUOUS = {name: place for place, name in enumerate(synthetic.NAMES)}


def instances(path: Path, found: list[dict[str, Any]], ids: dict[str, int]) -> dict[str, Any]:
    """Ground truth near the boxes of rows: some moved, some lost, some crowds, some invented."""
    random = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row in found:
        image_id = row["image_id"] * 7 + 3  # not the run's own
        name = row["image_uri"].removeprefix("s3://bucket/images/")
        images.append({"id": image_id, "file_name": name})
        for box in row["detections"] or []:
            if random.random() < 0.4:
                continue
            size = np.array([box["xmax"] - box["xmin"], box["ymax"] - box["ymin"]])
            corner = np.array([box["xmin"], box["ymin"]]) + random.normal(0, 0.08, 2) * size
            size = size * random.uniform(0.8, 1.2, 2)
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image_id,
                    "category_id": ids[box["label"]],
                    "bbox": [*corner.tolist(), *size.tolist()],
                    "area": float(size.prod()) * 0.7,
                    "iscrowd": int(random.random() < 0.05),
                    "segmentation": [[1, 2, 3, 4]],
                }
            )
    random.shuffle(images)
    categories = [{"id": k, "name": name} for name, k in ids.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return content
