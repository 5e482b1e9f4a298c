"""The Triton kernels on a CPU, by Triton's interpreter, against their references.

`TRITON_INTERPRET=1 python -m tests.support.kernels_interpreted` prints, as JSON, how far each of
`COMPARISONS` is from its reference. Triton reads the variable as the kernels are defined, so this
takes a process of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from pipeline.bench import standin
from pipeline.bench.matching import match
from pipeline.network import kernels, nms, steps
from pipeline.network import roi_align as gathered
from pipeline.network.contract import Weights
from pipeline.network.engine import Engine
from pipeline.network.ways import KERNELS, PLAIN
from tests.support.matching import picture

# name to what gives the largest difference, and to the largest one allowed
COMPARISONS: dict[str, tuple[Callable[[], float], float]] = {}

HALF, FULL = torch.float16, torch.float32


def comparison(name: str, allowed: float, *given: Any) -> Callable[[Any], Any]:
    """Adds a function, called with what is given, to `COMPARISONS`."""

    def added(function: Callable[..., float]) -> Callable[..., float]:
        assert name not in COMPARISONS
        COMPARISONS[name] = lambda: function(*given), allowed
        return function

    return added


def furthest(ours: Tensor, expected: Tensor) -> float:
    """The largest difference; NaN is equal to NaN alone."""
    assert ours.shape == expected.shape and ours.dtype == expected.dtype
    if ours.numel() == 0:
        return 0.0
    apart = (ours.double() - expected.double()).abs()
    apart = apart.where(ours.isnan() != expected.isnan(), apart.nan_to_num(0))
    return float(apart.nan_to_num(torch.inf).max())


def normal(*shape: int, dtype: torch.dtype = FULL) -> Tensor:
    """A map [N, C, H, W], channels_last."""
    return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)


# ------------------------------------------------------------------ non-maximum suppression


def crowded(n: int, sets: int, k: int) -> dict[str, Any]:
    """Boxes of few different scores; some have no extent, and some do not count."""
    corner, side = torch.rand(n, sets, k, 2) * 150, torch.rand(n, sets, k, 2) * 80 + 5
    side[..., ::17, :] = 0
    return {
        "boxes": torch.cat((corner, corner + side), -1),
        "scores": torch.randint(1, 20, (n, sets, k)) / 20,
        "groups": torch.arange(sets)[:, None] * 3 + torch.randint(3, (n, sets, k)),
        "good": torch.rand(n, sets, k) < 0.9,
    }


def row(boxes: Tensor) -> dict[str, Any]:
    """One set of them, the best first."""
    k = len(boxes)
    return {
        "boxes": boxes[None, None],
        "scores": torch.linspace(1, 0.1, k)[None, None],
        "groups": torch.ones(1, 1, k, dtype=torch.int64),
        "good": torch.ones(1, 1, k, dtype=torch.bool),
    }


def suppressed(given: dict[str, Any], threshold: float) -> float:
    """How many boxes are not those of torchvision, or not where they should be."""
    limit = given["good"][0].numel()
    wrong = 0
    for most in {limit, max(1, limit // 3)}:
        index, found, settled = kernels.best_at_once(**given, threshold=threshold, limit=most)
        expected, there, _ = nms.best(**given, threshold=threshold, limit=most)
        assert settled and index.shape == expected.shape
        wrong += int((found != there).sum() + (index != expected)[there].sum())
        index, found, settled = nms.best_at_once(**given, threshold=threshold, limit=most)
        if settled:
            wrong += int((found != there).sum() + (index != expected)[there].sum())
    return wrong


for shape, threshold in itertools.product([(1, 2, 150), (1, 1, 64), (2, 3, 7)], [0.7, 0.5, 0.1]):

    @comparison(f"nms {shape} {threshold}", 0, shape, threshold)
    def _(shape: tuple[int, int, int], threshold: float) -> float:
        return suppressed(crowded(*shape), threshold)


@comparison("nms one score", 0)
def _() -> float:
    given = crowded(1, 2, 80)
    given["boxes"][..., 40:, :] = given["boxes"][..., :40, :]
    return suppressed(given | {"scores": torch.full((1, 2, 80), 0.5)}, 0.6)


@comparison("nms none is good", 0)
def _() -> float:
    given = crowded(3, 2, 40)
    given["good"][0], given["good"][1, 1] = False, False
    return suppressed(given, 0.5)


@comparison("nms one box", 0)
def _() -> float:
    return suppressed(row(torch.tensor([[3.0, 4.0, 9.0, 8.0]])), 0.5)


@comparison("nms at the threshold", 0)
def _() -> float:
    """Of an IoU of 1/2 and of 1/4 exactly: only what is above goes; in a block and behind it."""
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
    others = torch.arange(1, 41)[:, None] * 10 + torch.tensor([0.0, 0.0, 4.0, 4.0])
    apart = torch.cat((boxes[:1], others, boxes[1:]))
    return sum(suppressed(row(x), at) for x in (boxes, apart) for at in (0.5, 0.25))


@comparison("nms in another order of memory", 0)
def _() -> float:
    given = crowded(2, 3, 40)
    return suppressed(
        {name: x.transpose(1, 2).contiguous().transpose(1, 2) for name, x in given.items()}, 0.5
    )


for length in (nms.ROUNDS - 1, nms.ROUNDS + 1, 200):

    @comparison(f"nms chain of {length}", 0, length)
    def _(length: int) -> float:
        """Each overlaps only its neighbours, so each hangs on the one before it."""
        left = torch.arange(length) * 4.0
        return suppressed(row(torch.stack((left, left * 0, left + 10, left * 0 + 10), -1)), 0.3)


# -------------------------------------------------------------- what follows a convolution


def summed(y: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool) -> Tensor:
    """The reference, in float32."""
    y = y.float() if bias is None else y.float() + bias[:, None, None]
    y = y if residual is None else y + steps.resized(residual.float(), y)
    return y.relu() if relu else y


def halved(shape: tuple[int, ...], up: bool) -> tuple[int, ...]:
    """Of a map, or of one whose pixels each stand for four of it."""
    n, c, height, width = shape
    return (n, c, -(-height // 2), -(-width // 2)) if up else shape


MAP_SHAPES = [(2, 12, 8, 12), (1, 5, 1, 1), (3, 64, 7, 7), (1, 130, 3, 5), (2, 300, 2, 4)]

for dtype, other, relu in itertools.product([HALF, FULL], [None, HALF, FULL], [False, True]):

    @comparison(f"epilogue {dtype} {other} {relu}", 0, dtype, other, relu)
    def _(dtype: torch.dtype, other: torch.dtype | None, relu: bool) -> float:
        worst = 0.0
        for shape, up in itertools.product([*MAP_SHAPES, (0, 8, 3, 3)], [False, True]):
            y, bias = normal(*shape, dtype=dtype), torch.randn(shape[1])
            y[:, :, 0, 0] = torch.nan
            residual = None if other is None else normal(*halved(shape, up), dtype=other)
            expected = summed(y, bias, residual, relu).to(dtype)
            assert kernels.epilogue(y, bias, residual, relu) is y
            worst = max(worst, furthest(y, expected))
        return worst


# ------------------------------------------------------------------------------- RoIAlign

MAPS = [(37, 51), (19, 26), (9, 13), (1, 1)]


def aligned(
    count: int, channels: int, output: int | tuple[int, int], ratio: int, dtype: torch.dtype
) -> float:
    """Boxes of all sizes, some beyond their map, some without an extent.

    In float16 the difference is in parts of what one rounding makes of it.
    """
    maps = [normal(2, channels, *size, dtype=dtype) for size in MAPS]
    level, image = torch.arange(count) % 4, torch.randint(2, (count,))
    width, height = torch.tensor([[w, h] for h, w in MAPS])[level].T
    limits = torch.stack((width, height), 1).float()
    start = (torch.rand(count, 2) * 1.4 - 0.2) * limits
    boxes = torch.cat((start, start + torch.rand(count, 2) * limits), 1)
    boxes[1::7, 2:] = boxes[1::7, :2]
    boxes[2::7] = torch.cat((limits * 0, limits), 1)[2::7]
    boxes[3::7] += 1e4
    boxes[4::7] -= 1e4
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], output, ratio)
    ours = kernels.roi_align(maps, boxes, image, level, pooler)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    exact = gathered.roi_align([x.float() for x in maps], boxes, image, level, pooler)
    if dtype == FULL:
        return furthest(ours, exact)
    rounding = exact.abs() * 2**-11 + 1e-5
    return furthest(ours.float() / rounding, exact / rounding)


for given in [(14, 6, 7, 2), (7, 12, (3, 5), 2), (7, 3, (2, 3), 3), (5, 1, 1, 1), (0, 6, 7, 2)]:
    comparison(f"roi_align {given} {FULL}", 2e-6, *given, FULL)(aligned)
for given in [(7, 12, (3, 5), 2), (0, 6, 7, 2)]:
    comparison(f"roi_align {given} {HALF}", 1, *given, HALF)(aligned)


# --------------------------------------------------------------------------------- the others

for sides, dtype in itertools.product(
    [(2, 64, 7, 10), (1, 5, 1, 1), (1, 3, 2, 9), (2, 300, 4, 3)], [HALF, FULL]
):

    @comparison(f"max_pool {sides} {dtype}", 0, sides, dtype)
    def _(sides: tuple[int, ...], dtype: torch.dtype) -> float:
        x = normal(*sides, dtype=dtype)
        x[0, 0, 0, 0] = torch.nan
        return furthest(kernels.max_pool(x), steps.max_pool(x))


for size, resized, dtype in itertools.product(
    [(9, 13), (1, 1), (30, 4)], [(21, 300), (4, 5), (1, 1)], [HALF, FULL]
):

    @comparison(
        f"transform {size} {resized} {dtype}", 2e-6 if dtype == FULL else 2e-3, size, resized, dtype
    )
    def _(size: tuple[int, int], resized: tuple[int, int], dtype: torch.dtype) -> float:
        pixels = torch.randint(256, (*size, 3), dtype=torch.uint8)
        mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
        rows, columns = resized[0] + 2, resized[1] + 20
        ours, expected = (
            torch.full((rows, columns, 4), torch.nan, dtype=dtype).permute(2, 0, 1)
            for _ in range(2)
        )
        kernels.transform(pixels, ours, resized, mean, std)
        steps.transform(pixels, expected, resized, mean, std)
        return furthest(ours, expected)


# -------------------------------------------------------------------------- the whole forward


def unfused(*given: Any) -> Tensor:
    """`kernels.convolution` without cuDNN."""
    relu: bool = given[4]
    return steps.convolution(*given) if relu else kernels.convolution(*given)


@functools.cache
def small() -> Weights:
    """Of a network whose forward can be interpreted in a few seconds."""
    return standin.weights({"min_size": 64, "max_size": 96, "rpn_post_nms_top_n_test": 8})


@comparison("forward fp32", 0, "fp32")
@comparison("forward fp16", 0.1, "fp16")
def _(precision: str) -> float:
    """Which share of the boxes is not found; near a threshold they come and go by rounding."""
    # those of `main` would be too many here
    kernels.ROI_ALIGN["BLOCK"] = 256
    weights, found = small(), []
    # nor is there cuBLAS, nor CUDA's graphs
    ways = dataclasses.replace(KERNELS, convolution=unfused, linear=steps.linear, graphs=False)
    for way in (PLAIN, ways):
        engine = Engine(weights, "cpu", 1, precision, way)
        engine.at_once = True  # as on a GPU
        found += engine([picture(48, 64)])
    plain, ours = found
    assert len(plain.labels) > 20
    shares = match([ours], [plain])
    return 1 - (shares.tight if precision == "fp32" else shares.loose)


def main() -> None:
    # the blocks are as on a GPU, but for these: few channels in several of them
    kernels.ROI_ALIGN["BLOCK"] = 8
    torch.set_num_threads(1)
    found: dict[str, float | str] = {}
    for name, (function, _) in COMPARISONS.items():
        torch.manual_seed(0)
        try:
            found[name] = function()
        except Exception as error:
            found[name] = repr(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
