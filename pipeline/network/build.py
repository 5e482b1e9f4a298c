"""torchvision's V2 network, built of weights that fit it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn_v2

from pipeline.network.contract import Weights


def build(state: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> FasterRCNN:
    """torchvision's V2 network in eval mode, float32 on the CPU, with these weights."""
    # without memory at first: initial values take longer to draw than these to be copied
    with torch.device("meta"):
        model = fasterrcnn_resnet50_fpn_v2(
            weights=None, weights_backbone=None, progress=False, **options
        )
    model.load_state_dict({name: _copied(array) for name, array in state.items()}, assign=True)
    anchors = model.rpn.anchor_generator  # no part of the state, and made on meta like all else
    anchors.cell_anchors = [
        anchors.generate_anchors(sizes, ratios)
        for sizes, ratios in zip(anchors.sizes, anchors.aspect_ratios, strict=True)
    ]
    # whole numbers would make whole numbers of what is computed with them
    for name in ("image_mean", "image_std"):
        setattr(model.transform, name, [float(x) for x in getattr(model.transform, name)])
    return model.eval()


def _copied(array: np.ndarray) -> torch.Tensor:
    """In float32; arrays may be half precision, and memory that processes of a node share.

    In torch's own memory: by how NumPy's is aligned, sums of a batch would round otherwise than
    those of an image alone.
    """
    tensor = torch.tensor(array)
    return tensor.float() if tensor.is_floating_point() else tensor


def suits(weights: Weights, height: int, width: int) -> bool:
    """Whether an image of this size, in pixels, becomes no larger in the network, and not so small
    that nothing is left of it; `_resize_image_and_masks` of torchvision.
    """
    if fixed := weights.options.get("fixed_size"):
        return bool(width >= fixed[0] and height >= fixed[1])
    sides = option(weights, "min_size")
    short = sides if isinstance(sides, int) else sides[-1]
    scale = min(short / min(height, width), option(weights, "max_size") / max(height, width))
    return bool(scale <= 1 and math.floor(min(height, width) * scale) >= 1)


def option(weights: Weights, name: str) -> Any:
    """The value of a keyword of `FasterRCNN`: the one given, else torchvision's default."""
    return weights.options.get(name, inspect.signature(FasterRCNN).parameters[name].default)
