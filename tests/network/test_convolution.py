"""Folded and Winograd's convolutions against torch's, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.network.convolution import Convolution, folded
from pipeline.network.winograd import Winograd


def relative(ours: torch.Tensor, exact: torch.Tensor) -> float:
    return float((ours.double() - exact).norm() / exact.norm())


def of_shape(shape: torch.Size, residual: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A residual in float32, channels_last, and what it adds to a map of that shape."""
    n, c, h, w = shape
    size = {"none": (), "same": (n, c, h, w), "half": (n, c, h // 2, w // 2)}[residual]
    x = torch.randn(size).to(memory_format=torch.channels_last) if size else torch.zeros(())
    exact = x.double()
    if residual == "half":
        exact = exact.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return x, exact


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
@pytest.mark.parametrize("residual", ["none", "same", "half"])
@pytest.mark.parametrize("size,stride", [(1, 1), (1, 2), (3, 2), (7, 2)])
def test_a_folded_convolution(size: int, stride: int, relu: bool, residual: str) -> None:
    conv, norm = randomized(8, 12, size, stride)
    x = torch.randn(2, 8, 20, 24)
    ours = Convolution(folded(conv, norm), conv, relu, torch.device("cpu"))
    exact = norm.double()(conv.double()(x.double()))
    other, added = of_shape(exact.shape, residual)
    exact = exact + added
    found = ours(x.to(memory_format=torch.channels_last), None if residual == "none" else other)
    assert relative(found, exact.relu() if relu else exact) < 1e-6


def test_a_folded_convolution_without_a_normalisation() -> None:
    conv = nn.Conv2d(3, 4, 1)
    weight, bias = folded(conv)
    assert weight.dtype == bias.dtype == torch.float64
    assert conv.bias is not None
    assert torch.equal(weight.float(), conv.weight) and torch.equal(bias.float(), conv.bias)
    conv = nn.Conv2d(3, 4, 1, bias=False)
    assert torch.equal(folded(conv)[1], torch.zeros(4, dtype=torch.float64))


@torch.inference_mode()
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("residual", ["none", "same", "half"])
@pytest.mark.parametrize("biased", [False, True])
def test_a_folded_convolution_of_float16(biased: bool, residual: str, relu: bool) -> None:
    conv, norm = randomized(8, 12, 1, 1)
    weight, bias = folded(conv, norm)
    x = torch.randn(2, 8, 20, 24).half()
    given = (weight, bias if biased else None)
    ours = Convolution(given, conv, relu, torch.device("cpu"), torch.float16)
    exact = F.conv2d(x.double(), weight, bias if biased else None)
    other, added = of_shape(exact.shape, residual)
    exact = exact + added
    found = ours(
        x.to(memory_format=torch.channels_last), None if residual == "none" else other.half()
    )
    assert found.dtype == torch.float16
    assert relative(found, exact.relu() if relu else exact) < 1e-3


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
    ours = Convolution(folded(conv, norm), conv, True, torch.device("cpu"))
    assert isinstance(ours.winograd, Winograd)
    x = torch.randn(n, c, h, w)
    found = ours(x.to(memory_format=torch.channels_last))
    exact = norm.double()(conv.double()(x.double())).relu()
    assert found.shape == exact.shape and relative(found, exact) < 2e-5
