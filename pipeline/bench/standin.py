"""Weights that stand in for trained ones: untrained, but of the same magnitudes everywhere.

A freshly initialised network amplifies rounding by tens of times and finds boxes in everything, so
that neither its exactness nor its cost says anything about a trained one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn_v2
from torchvision.models.resnet import Bottleneck

from pipeline.bench.mix import picture
from pipeline.network.contract import ARCHITECTURE, Weights

PICTURES = 2
RESIDUAL_GAIN = 0.2
RPN_LOGIT_STD, RPN_DELTA_STD, CLASS_LOGIT_STD = 2.0, 0.25, 3.0
# boxes of an image above the score threshold, before suppression
CANDIDATES = 250
LARGEST_BIAS = 64.0


def weights(
    options: Mapping[str, Any] | None = None, size: tuple[int, int] = (480, 640), seed: int = 0
) -> Weights:
    """Stand-in weights, the same ones for the same arguments.

    Args:
        options: keywords for `network.build.build`; `num_classes` is 91 if not given.
        size: (height, width) of the pictures to calibrate on.
        seed: of weights and pictures.
    """
    options = {"num_classes": 91, **(options or {})}
    random = np.random.default_rng(seed)
    pictures = [picture(size[1], size[0], random) for _ in range(PICTURES)]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = fasterrcnn_resnet50_fpn_v2(
            weights=None, weights_backbone=None, progress=False, **options
        ).eval()
        for module in model.modules():
            if isinstance(module, Bottleneck):
                module.bn3.weight.mul_(RESIDUAL_GAIN)
        _calibrate(model, [torch.tensor(pixels).permute(2, 0, 1) / 255 for pixels in pictures])
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    digest = hashlib.sha256()
    for name, array in sorted(state.items()):
        digest.update(name.encode() + array.tobytes())
    return Weights(
        model_id=f"{ARCHITECTURE}/standin:{seed}",
        sha256=digest.hexdigest(),
        trained=False,
        categories={},
        state=state,
        options=options,
    )


def _calibrate(model: FasterRCNN, pictures: list[Tensor]) -> None:
    """Set normalisation and the last layers, in the order of the forward."""
    images, _ = model.transform(pictures)
    features = _normalized(model.backbone, images.tensors)
    logits, deltas = model.rpn.head(list(features.values()))
    _scale(model.rpn.head.cls_logits, logits, RPN_LOGIT_STD)
    _scale(model.rpn.head.bbox_pred, deltas, RPN_DELTA_STD)
    proposals, _ = model.rpn(images, features)
    heads = model.roi_heads
    pooled = heads.box_roi_pool(features, proposals, images.image_sizes)
    x = _normalized(heads.box_head, pooled)
    score = heads.box_predictor.cls_score
    _scale(score, [score(x)], CLASS_LOGIT_STD)
    score.bias[0] += _background_bias(score(x), heads.score_thresh)


def _normalized(module: nn.Module, x: Tensor) -> Any:
    """The output, with every batch normalisation's statistics set to those of this input."""
    norms = [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all that it sees, which is this alone
        norm.train()
    output = module(x)
    for norm in norms:
        norm.eval()
    return output


def _scale(layer: nn.Conv2d | nn.Linear, outputs: list[Tensor], std: float) -> None:
    """Scale a layer so that these outputs of it would have this standard deviation."""
    factor = std / torch.cat([output.flatten() for output in outputs]).std()
    for parameter in layer.parameters():
        parameter.mul_(factor)


def _background_bias(logits: Tensor, threshold: float) -> float:
    """What to add to the background's logit, to leave `CANDIDATES` an image at most.

    Args:
        logits: [P, classes], of `PICTURES` images.
        threshold: of the scores.
    """
    low, high = 0.0, LARGEST_BIAS
    shifted = logits.clone()
    while high - low > 1e-3:
        middle = (low + high) / 2
        shifted[:, 0] = logits[:, 0] + middle
        above = int((shifted.softmax(-1)[:, 1:] > threshold).sum())
        low, high = (middle, high) if above > CANDIDATES * PICTURES else (low, middle)
    return high
