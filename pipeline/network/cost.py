"""What the network costs at least: its floating-point operations, counted and not run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2


class Cost:
    """torchvision's network on torch's meta device, which knows shapes and computes nothing.

    Args:
        options: keywords of the network.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        with torch.device("meta"):
            self.model = fasterrcnn_resnet50_fpn_v2(
                weights=None, weights_backbone=None, progress=False, **options
            ).eval()
        self.counted: dict[tuple[int, int], float] = {}

    def padded_shape(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the network's input for one image, after resizing and padding."""
        images, _ = self.model.transform([torch.empty(3, height, width, device="meta")])
        padded_height, padded_width = images.tensors.shape[2:]
        return padded_height, padded_width

    def gflop(self, shape: tuple[int, int]) -> float:
        """GFLOP of one image of this padded shape: 2 for each multiplication and its addition.

        Those of convolutions and matrix products, with as many proposals as there may be.
        """
        if shape not in self.counted:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                self._forward(torch.empty(1, 3, *shape, device="meta"))
            self.counted[shape] = counter.get_total_flops() / 1e9
        return self.counted[shape]

    def _forward(self, image: torch.Tensor) -> None:
        model, heads = self.model, self.model.roi_heads
        features = model.backbone(image)
        model.rpn.head(list(features.values()))
        channels, side = model.backbone.out_channels, heads.box_roi_pool.output_size
        pooled = image.new_empty(model.rpn.post_nms_top_n(), channels, *side)
        heads.box_predictor(heads.box_head(pooled))
