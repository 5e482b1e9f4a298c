"""Pictures, what torchvision finds in them, and whether that is the same, box by box."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torchvision.models.detection import FasterRCNN
from torchvision.ops import boxes as torchvision_boxes

from pipeline.bench.matching import match
from pipeline.network.contract import Boxes


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Rectangles of random colours, with a little noise."""
    random = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), random.integers(0, 256, 3), np.int64)
    for _ in range(30):
        top, left = random.integers(height), random.integers(width)
        h, w = random.integers(1, height + 1), random.integers(1, width + 1)
        pixels[top : top + h // 2 + 1, left : left + w // 2 + 1] = random.integers(0, 256, 3)
    return (pixels + random.integers(-20, 21, pixels.shape)).clip(0, 255).astype(np.uint8)


def reference(model: FasterRCNN, pixels: np.ndarray) -> Boxes:
    """torchvision's `model([image])`, as if it were the first image that the model is given."""
    model.roi_heads.box_roi_pool.scales = model.roi_heads.box_roi_pool.map_levels = None
    with torch.inference_mode():
        (found,) = model([torch.from_numpy(pixels).permute(2, 0, 1) / 255])
    return Boxes(found["boxes"].numpy(), found["labels"].numpy(), found["scores"].numpy())


@contextlib.contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """torchvision tells groups apart as it does on a GPU, which rounds otherwise than on a CPU."""
    with mock.patch.object(
        torchvision_boxes, "batched_nms", torchvision_boxes._batched_nms_coordinate_trick
    ):
        yield


def boxes_of(row: dict[str, Any]) -> Boxes:
    """The detections of an output row."""
    found = row["detections"]
    xyxy = [[d[name] for name in ("xmin", "ymin", "xmax", "ymax")] for d in found]
    return Boxes(
        np.array(xyxy, np.float32).reshape(-1, 4),
        np.array([d["label_id"] for d in found], np.int64),
        np.array([d["score"] for d in found], np.float32),
    )


# of boxes, at most, that a near tie may decide otherwise: which of two overlapping proposals is the
# better one hangs on the last bits of a score, and those on the processor's instructions
NEAR_TIES = 0.01


def assert_same(ours: Boxes, theirs: Boxes) -> None:
    """Every detection of either is paired, but for near ties: the contract of fp32."""
    ties = int(NEAR_TIES * len(theirs.labels))
    assert abs(len(ours.labels) - len(theirs.labels)) <= ties
    unpaired = (1 - match([ours], [theirs]).tight) * len(theirs.labels)
    assert round(unpaired) <= ties
    assert (np.diff(ours.scores) <= 0).all()
