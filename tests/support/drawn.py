"""Small pictures with annotations of what is drawn on them, for trainings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# the real network with little work to do
TINY: dict[str, Any] = {
    "min_size": 64,
    "max_size": 96,
    "rpn_pre_nms_top_n_train": 50,
    "rpn_post_nms_top_n_train": 20,
    "rpn_pre_nms_top_n_test": 50,
    "rpn_post_nms_top_n_test": 20,
    "box_batch_size_per_image": 8,
    "rpn_batch_size_per_image": 16,
}
SIDE = 64


def draw(folder: Path, images: int = 4, names: tuple[str, ...] = ("disc", "bar")) -> Path:
    """Pictures `n.png` below `folder`/images, each with one bright box of each class.

    Returns:
        COCO's instances JSON about them.
    """
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    for number in range(images):
        pixels = random.integers(0, 60, (SIDE, SIDE, 3), np.uint8)
        for category in range(1, len(names) + 1):
            x, y = random.integers(0, SIDE - 24, 2).tolist()
            w, h = (20, 20) if category == 1 else (24, 12)
            pixels[y : y + h, x : x + w, category % 3] = 250
            box = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
            annotations.append(box | {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0})
        Image.fromarray(pixels).save(folder / f"images/{number}.png")
    return write(
        folder / "truth.json",
        {
            "images": [{"id": n, "file_name": f"{n}.png"} for n in range(images)],
            "annotations": annotations,
            "categories": [{"id": k, "name": name} for k, name in enumerate(names, start=1)],
        },
    )


def write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content))
    return path
