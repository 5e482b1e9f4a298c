"""RoIAlign over the levels of a feature pyramid, as weighted sums of rows of one table."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign


def multiscale_roi_align(
    maps: list[Tensor],
    boxes: Tensor,
    image: Tensor,
    scales: Tensor,
    pooler: MultiScaleRoIAlign,
    align: Callable[..., Tensor],
) -> Tensor:
    """torchvision's `MultiScaleRoIAlign` (He et al. 2017; levels by Lin et al. 2017).

    torchvision infers scales and levels from the first image that a model is given, and keeps
    them. Here each image has its own, as if it were the first: for photographs the same ones, for
    images that are a strip of a few pixels in the network others.

    Args:
        maps: each [N, C, H, W], finest first.
        boxes: [P, 4] float32, xyxy in pixels of the network's input.
        image: [P] int64, which image a box is of.
        scales: [N, L] float32, `inferred_scale` of each image on each map.
        pooler: has output size, sampling ratio and canonical scale and level.
        align: `roi_align`, or what gives the same.

    Returns:
        [P, C, h, w], channels_last.
    """
    levels = -scales[image].log2()
    k_min, k_max = levels[:, 0], levels[:, -1]
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = (pooler.canonical_level + torch.log2(side / pooler.canonical_scale) + 1e-6).floor()
    level = (level.clamp(k_min, k_max) - k_min).long()
    return align(maps, boxes * scales[image, level][:, None], image, level, pooler)


def uploaded(values: Any, device: torch.device) -> Tensor:
    """Numbers that the host knows, on a device that it does not wait for."""
    numbers = torch.tensor(values, device="cpu")
    # of other memory a driver may make the host wait until it has been copied
    return (numbers.pin_memory() if device.type == "cuda" else numbers).to(
        device, non_blocking=True
    )


@lru_cache(maxsize=4096)
def inferred_scale(map_height: int, height: int) -> float:
    """A power of two, about the map's height over the image's; torchvision's `_infer_scale`."""
    return math.exp2(float(torch.tensor(map_height / height).log2().round()))


def roi_align(
    maps: list[Tensor], boxes: Tensor, image: Tensor, level: Tensor, pooler: MultiScaleRoIAlign
) -> Tensor:
    """torchvision's `roi_align`, each box on its own map.

    Each value is the mean of ratio^2 samples, each between four pixels: a weighted sum of
    4 ratio^2 rows of the table of all pixels of all maps.

    Args:
        maps: each [N, C, H, W].
        boxes: [P, 4], xyxy in pixels of their maps.
        image, level: [P] int64, which map.
        pooler: has output size and sampling ratio.

    Returns:
        [P, C, h, w], channels_last.
    """
    (rows, columns), ratio = pooler.output_size, pooler.sampling_ratio
    table = torch.cat([x.permute(0, 2, 3, 1).flatten(0, 2) for x in maps])
    places = [[*x.shape[2:], x.shape[0] * x.shape[2] * x.shape[3]] for x in maps]
    height, width, pixels = uploaded(places, boxes.device).T
    first = (pixels.cumsum(0) - pixels)[level]
    height, width = height[level], width[level]
    first = first + image * height * width
    y, y_weight = samples(boxes[:, 1], boxes[:, 3], height, rows, ratio)
    x, x_weight = samples(boxes[:, 0], boxes[:, 2], width, columns, ratio)
    y = first[:, None, None] + y * width[:, None, None]
    index = y[:, :, None, :, None] + x[:, None, :, None, :]
    weight = y_weight[:, :, None, :, None] * x_weight[:, None, :, None, :] / ratio**2
    values = F.embedding_bag(
        index.reshape(-1, 4 * ratio**2),
        table,
        mode="sum",
        per_sample_weights=weight.reshape(-1, 4 * ratio**2).to(table.dtype),
    )
    return values.view(len(boxes), rows, columns, table.shape[1]).permute(0, 3, 1, 2)


def samples(
    start: Tensor, end: Tensor, length: Tensor, bins: int, ratio: int
) -> tuple[Tensor, Tensor]:
    """Along one axis, the pixels that a bin's samples lie between, and their weights.

    Args:
        start, end: [P] float32, the boxes' extents.
        length: [P] int64, of their maps.

    Returns:
        Two tensors [P, bins, 2 ratio]: int64 pixels and float32 weights.
    """
    size = (end - start).clamp(min=1)[:, None, None] / bins
    bin = torch.arange(bins, device=start.device)[:, None]
    part = torch.arange(ratio, device=start.device) + 0.5
    at = start[:, None, None] + bin * size + part * size / ratio
    last = (length - 1)[:, None, None]
    inside = (at >= -1) & (at <= length[:, None, None])
    at = at.clamp(min=0)
    low = at.long().minimum(last)
    beyond = torch.where(low < last, at - low, 0.0)
    pixel = torch.stack((low, (low + 1).minimum(last)), -1)
    weight = torch.stack((1 - beyond, beyond), -1) * inside[..., None]
    return pixel.flatten(2), weight.flatten(2)
