"""The network's layers as inference wants them, on their device and of its types."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.resnet import Bottleneck

from pipeline.network.convolution import Convolution, folded
from pipeline.network.ways import Ways

# of the network's input, three of which are colours: tensor cores take four at a time
CHANNELS = 4


class Layers:
    """In the order of the forward; names are torchvision's.

    Args:
        model: torchvision's, with its weights.
        device: where they shall run.
        dtype: what convolutions and the first layer of the box head multiply.
        ways: of the steps for which there are several.

    Attributes:
        stem, stages: of the ResNet; of each of four stages the blocks, see `_block`.
        inner_blocks, layer_blocks: of the pyramid.
        rpn_convs: before `rpn_predictor`, weight and bias of objectness and deltas as one.
        cell_anchors: of each map, [A, 4] float32.
        box_convs, fc: before `box_predictor`, weight and bias of class logits and deltas as one.
        classes: number of them, with the background.
    """

    def __init__(
        self, model: FasterRCNN, device: torch.device, dtype: torch.dtype, ways: Ways
    ) -> None:
        self.device, self.dtype, self.ways = device, dtype, ways
        self._body(model)
        self._heads(model)

    def _body(self, model: FasterRCNN) -> None:
        body, fpn = model.backbone.body, model.backbone.fpn
        weight, bias = folded(body.conv1, body.bn1)
        weight = F.pad(weight, (0, 0, 0, 0, 0, CHANNELS - weight.shape[1]))
        self.stem = self._convolution((weight, bias), body.conv1, relu=True)
        self.stages = [
            [self._block(block) for block in body[f"layer{number}"]] for number in range(1, 5)
        ]
        self.inner_blocks = [self._folded(*block) for block in fpn.inner_blocks]
        self.layer_blocks = [self._folded(*block) for block in fpn.layer_blocks]

    def _heads(self, model: FasterRCNN) -> None:
        head = model.rpn.head
        self.rpn_convs = [self._folded(block[0], relu=True) for block in head.conv]
        self.rpn_predictor = self._predictor(head.cls_logits, head.bbox_pred, dtype=self.dtype)
        self.cell_anchors = [a.to(self.device) for a in model.rpn.anchor_generator.cell_anchors]
        *convs, _, fc, _ = model.roi_heads.box_head
        self.box_convs = [self._folded(conv, norm, relu=True) for conv, norm, _ in convs]
        side = model.roi_heads.box_roi_pool.output_size
        self.fc = (
            channels_last(fc, side).to(self.device, self.dtype),
            fc.bias.detach().to(self.device),
        )
        predictor = model.roi_heads.box_predictor
        self.classes = predictor.cls_score.out_features
        self.box_predictor = self._predictor(
            predictor.cls_score, predictor.bbox_pred, dtype=torch.float32
        )

    def _convolution(
        self, folded: tuple[Tensor, Tensor | None], conv: nn.Conv2d, relu: bool
    ) -> Convolution:
        return Convolution(folded, conv, relu, self.device, self.dtype, self.ways)

    def _folded(
        self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None, relu: bool = False
    ) -> Convolution:
        return self._convolution(folded(conv, norm), conv, relu)

    def _predictor(
        self, *layers: nn.Conv2d | nn.Linear, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Weight [K, C] and bias [K] of layers of one input as one, filled up with zeros."""
        weight = torch.cat([layer.weight.detach().flatten(1) for layer in layers])
        bias = torch.cat([layer.bias.detach() for layer in layers if layer.bias is not None])
        # tensor cores take eight at a time
        more = -len(bias) % 8
        weight, bias = F.pad(weight, (0, 0, 0, more)), F.pad(bias, (0, more))
        return weight.to(self.device, dtype), bias.to(self.device)

    def _block(self, block: Bottleneck) -> list[Convolution]:
        """A bottleneck's three convolutions, and a fourth one where the input changes its shape."""
        weight, bias = folded(block.conv3, block.bn3)
        others = []
        if block.downsample is not None:
            # a sum needs one bias
            other, more = folded(*block.downsample)
            bias = bias + more
            others = [self._convolution((other, None), block.downsample[0], relu=False)]
        return [
            self._folded(block.conv1, block.bn1, relu=True),
            self._folded(block.conv2, block.bn2, relu=True),
            self._convolution((weight, bias), block.conv3, relu=True),
            *others,
        ]


def channels_last(layer: nn.Linear, side: Sequence[int]) -> Tensor:
    """Weight of a layer behind a flattening of [C, h, w] as of one behind that of [h, w, C].

    Args:
        layer: takes C * h * w values.
        side: (h, w).
    """
    weight = layer.weight.detach().reshape(layer.out_features, -1, *side)
    return weight.permute(0, 2, 3, 1).flatten(1).contiguous()
