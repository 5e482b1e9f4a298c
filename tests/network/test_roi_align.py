"""RoIAlign against torchvision's."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from pipeline.network.roi_align import inferred_scale, multiscale_roi_align, roi_align


def random_boxes(count: int, height: int, width: int) -> torch.Tensor:
    """Of all sizes, some at the edges, some without an extent."""
    corners = torch.rand(count, 4) * torch.tensor([width, height] * 2) * 1.2
    limits = torch.tensor([width, height] * 2, dtype=torch.float32)
    boxes = torch.cat(
        (corners[:, :2].minimum(corners[:, 2:]), corners[:, :2].maximum(corners[:, 2:])), 1
    )
    boxes[: count // 8, 2:] = boxes[: count // 8, :2]
    return boxes.minimum(limits)


@pytest.mark.parametrize("output,ratio", [(7, 2), ((5, 3), 2), (7, 3)])
@pytest.mark.parametrize(
    "sizes", [[(800, 1066), (780, 1088)], [(33, 256)], [(20, 700)], [(1, 64), (1, 40)], [(65, 90)]]
)
def test_multiscale_roi_align(
    sizes: list[tuple[int, int]], output: int | tuple[int, int], ratio: int
) -> None:
    torch.manual_seed(0)
    height, width = (-(-max(side) // 32) * 32 for side in zip(*sizes, strict=True))
    maps = [torch.randn(len(sizes), 6, height // s, width // s) for s in (4, 8, 16, 32)]
    boxes = [random_boxes(200 + n, *size) for n, size in enumerate(sizes)]
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], output, ratio)
    image = torch.arange(len(sizes)).repeat_interleave(torch.tensor([len(b) for b in boxes]))
    scales = torch.tensor([[inferred_scale(x.shape[2], side) for x in maps] for side, _ in sizes])
    ours = multiscale_roi_align(maps, torch.cat(boxes), image, scales, pooler, roi_align)
    expected = [
        MultiScaleRoIAlign(["0", "1", "2", "3"], output, ratio)(
            OrderedDict((str(level), x[n : n + 1]) for level, x in enumerate(maps)), [found], [size]
        )
        for n, (found, size) in enumerate(zip(boxes, sizes, strict=True))
    ]
    torch.testing.assert_close(ours, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_no_boxes() -> None:
    maps = [torch.randn(1, 6, 64 // s, 64 // s) for s in (1, 2, 4, 8)]
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    none, nobody = torch.empty(0, 4), torch.empty(0, dtype=torch.int64)
    scales = torch.tensor([[1 / 4, 1 / 8, 1 / 16, 1 / 32]])
    found = multiscale_roi_align(maps, none, nobody, scales, pooler, roi_align)
    assert found.shape == (0, 6, 7, 7)
