"""Arithmetic of boxes, xyxy float32, for any number of them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# torchvision's, which it does not let one set
MAX_LOG_SCALE = math.log(1000 / 16)


def decoded(deltas: Tensor, boxes: Tensor, weights: Sequence[float]) -> Tensor:
    """Boxes [..., 4] moved and stretched by deltas [..., 4]; `BoxCoder.decode_single`."""
    dx, dy, dw, dh = (deltas[..., i] / weight for i, weight in enumerate(weights))
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    x = dx * width + (boxes[..., 0] + 0.5 * width)
    y = dy * height + (boxes[..., 1] + 0.5 * height)
    half_w = 0.5 * (dw.clamp(max=MAX_LOG_SCALE).exp() * width)
    half_h = 0.5 * (dh.clamp(max=MAX_LOG_SCALE).exp() * height)
    return torch.stack((x - half_w, y - half_h, x + half_w, y + half_h), -1)


def clipped(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes [..., 4] within 0 and limits; `clip_boxes_to_image`."""
    return boxes.clamp(min=0).minimum(limits)


def large(boxes: Tensor, least: float) -> Tensor:
    """Whether both sides are that long; `remove_small_boxes`."""
    return (boxes[..., 2:] - boxes[..., :2] >= least).all(-1)
