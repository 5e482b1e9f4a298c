"""What the network costs at least, beside what torchvision says of it."""

from __future__ import annotations

import pytest
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights

from pipeline.network.cost import Cost


def test_flops_and_shapes_are_those_of_the_network() -> None:
    cost = Cost({})
    assert cost.padded_shape(480, 640) == (800, 1088)
    assert cost.padded_shape(640, 427) == (1216, 800)
    # torchvision's own count is of multiplications, for a square image
    multiplications = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["_ops"]
    assert cost.gflop((800, 800)) == pytest.approx(2 * multiplications, rel=1e-4)
    assert Cost({"min_size": 320, "max_size": 533}).padded_shape(480, 640) == (320, 448)
