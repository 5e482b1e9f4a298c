"""Steps in torch's own operations against what they stand for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from pipeline.network import steps

HALF, FULL = torch.float16, torch.float32
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]


@pytest.mark.parametrize("dtype", [HALF, FULL])
@pytest.mark.parametrize("height,width", [(9, 13), (1, 1), (30, 4), (96, 128)])
def test_transform(height: int, width: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    pixels = torch.randint(256, (height, width, 3), dtype=torch.uint8)
    torchvisions = GeneralizedRCNNTransform(40, 60, MEAN, STD).eval()
    theirs, _ = torchvisions([pixels.permute(2, 0, 1) / 255])
    size, padded = theirs.image_sizes[0], theirs.tensors.shape[2:]
    out = torch.full((*padded, 4), torch.nan, dtype=dtype).permute(2, 0, 1)
    steps.transform(pixels, out, size, torch.tensor(MEAN), torch.tensor(STD))
    allowed = 1e-6 if dtype == FULL else 2e-3
    torch.testing.assert_close(out[:3].float(), theirs.tensors[0], rtol=allowed, atol=allowed)
    assert not out[3].any() and not out[:, size[0] :].any() and not out[:, :, size[1] :].any()


@pytest.mark.parametrize("dtype", [HALF, FULL])
@pytest.mark.parametrize("height,width", [(1, 1), (2, 9), (7, 10), (8, 12)])
def test_max_pool(height: int, width: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, height, width).to(dtype)
    x[1, 2, 0, 0] = torch.nan
    y = steps.max_pool(x)
    assert y.dtype == dtype and y.shape == (2, 5, -(-height // 2), -(-width // 2))
    for row, column in torch.cartesian_prod(torch.arange(y.shape[2]), torch.arange(y.shape[3])):
        top, left = (2 * row - 1).clamp(min=0), (2 * column - 1).clamp(min=0)
        expected = x[:, :, top : 2 * row + 2, left : 2 * column + 2].amax((2, 3))
        torch.testing.assert_close(y[:, :, row, column], expected, rtol=0, atol=0, equal_nan=True)
    assert y[1, 2, 0, 0].isnan()


def test_a_layer_of_float16_is_summed_up_in_float32() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(5, 300).half(), torch.randn(7, 300).half(), torch.randn(7)
    y = steps.linear(x, weight, bias)
    exact = F.linear(x.double(), weight.double(), bias.double())
    assert y.dtype == FULL
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-4)


def test_a_map_is_resized_to_the_nearest() -> None:
    x, like = torch.arange(6.0).view(1, 1, 2, 3), torch.zeros(1, 1, 4, 6)
    assert torch.equal(steps.resized(x, like), x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert steps.resized(x, x) is x
