"""Folded and Winograd's convolutions against torch's, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.network.convolution import Convolution
from pipeline.network.winograd import Winograd


def relative(ours: torch.Tensor, exact: torch.Tensor) -> float:
    return float((ours.double() - exact).norm() / exact.norm())


def randomized(channels: int, out: int, size: int, stride: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, out, size, stride, size // 2, bias=False)
    norm = nn.BatchNorm2d(out).eval()
    state = norm.state_dict()
    for name in ("weight", "running_var"):
        state[name].uniform_(0.5, 2)
    for name in ("bias", "running_mean"):
        state[name].normal_()
    return conv, norm


@torch.inference_mode()
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("size,stride", [(1, 1), (1, 2), (3, 2), (7, 2)])
def test_a_folded_convolution(size: int, stride: int, relu: bool, residual: bool) -> None:
    conv, norm = randomized(8, 12, size, stride)
    x = torch.randn(2, 8, 19, 22)
    folded = Convolution(conv, norm, relu, torch.device("cpu"))
    exact = norm.double()(conv.double()(x.double()))
    other = torch.randn_like(exact) if residual else None
    ours = folded(x.to(memory_format=torch.channels_last), None if other is None else other.float())
    exact = exact if other is None else exact + other
    assert relative(ours, exact.relu() if relu else exact) < 1e-6


# one tile, part of one, more rows than are transformed together, many small images
@torch.inference_mode()
@pytest.mark.parametrize(
    "n,c,h,w,k",
    [
        (1, 128, 4, 4, 16),
        (1, 128, 1, 1, 8),
        (2, 130, 3, 70, 8),
        (1, 128, 90, 97, 4),
        (700, 128, 7, 7, 8),
    ],
)
def test_winograd(n: int, c: int, h: int, w: int, k: int) -> None:
    conv, norm = randomized(c, k, 3, 1)
    folded = Convolution(conv, norm, True, torch.device("cpu"))
    assert isinstance(folded.winograd, Winograd)
    x = torch.randn(n, c, h, w)
    ours = folded(x.to(memory_format=torch.channels_last))
    exact = norm.double()(conv.double()(x.double())).relu()
    assert ours.shape == exact.shape and relative(ours, exact) < 2e-5
