"""torchvision's V2 network, built of weights that fit it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn_v2

from pipeline.network.contract import Weights


def build(state: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> FasterRCNN:
    """torchvision's V2 network in eval mode, float32 on the CPU, with these weights."""
    model = fasterrcnn_resnet50_fpn_v2(
        weights=None, weights_backbone=None, progress=False, **options
    )
    # copied, since the arrays may be read-only memory shared by all processes of a node
    tensors = {name: torch.from_numpy(array.copy()) for name, array in state.items()}
    model.load_state_dict(tensors)
    # whole numbers would make whole numbers of what is computed with them
    for name in ("image_mean", "image_std"):
        setattr(model.transform, name, [float(x) for x in getattr(model.transform, name)])
    return model.eval()


def option(weights: Weights, name: str) -> Any:
    """The value of a keyword of `FasterRCNN`: the one given, else torchvision's default."""
    return weights.options.get(name, inspect.signature(FasterRCNN).parameters[name].default)
