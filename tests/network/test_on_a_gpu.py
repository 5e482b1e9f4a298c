"""What only a GPU can show; needs no Ray: `pytest --noconftest tests/network/test_on_a_gpu.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from pipeline.bench import device, standin
from pipeline.bench.matching import match
from pipeline.bench.rows import Reference
from pipeline.network import kernels, steps
from pipeline.network.contract import Boxes, ShortOfMemory, Weights
from pipeline.network.engine import Engine
from pipeline.network.graphs import AFTER
from pipeline.network.layers import CHANNELS
from pipeline.network.precision import HALF_FROM_SIDE
from pipeline.network.ways import KERNELS, PLAIN
from tests.support.kernels_interpreted import COMPARISONS
from tests.support.matching import picture

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
# a GPU's own functions, such as a division's, round otherwise in the last place, which is 4e-6 of a
# coordinate such as 51, the widest map's; two neighbours of a value differ by a few times 1
LAST_PLACE = 1e-5
SIZES = [(480, 640), (427, 640), (64, 64), (33, 500), (500, 33), (1080, 1920), (1, 1)]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return standin.weights({"num_classes": 21, "min_size": 256, "max_size": 512})


@pytest.fixture
def on_the_gpu() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.device("cuda"), device.tf32(False, False):
        yield


@pytest.mark.parametrize("name", [name for name in COMPARISONS if not name.startswith("forward")])
def test_a_kernel_is_its_reference(name: str, on_the_gpu: None) -> None:
    difference, allowed = COMPARISONS[name]
    assert difference() <= max(allowed, LAST_PLACE)


@pytest.mark.parametrize("dtype,allowed", [(torch.float32, 1e-4), (torch.float16, 2e-2)])
@pytest.mark.parametrize("residual", [False, True])
def test_a_fused_convolution_is_its_reference(
    residual: bool, dtype: torch.dtype, allowed: float, on_the_gpu: None
) -> None:
    """Also where memory that it is given holds no numbers."""
    last = torch.channels_last
    for channels, side, stride in [(CHANNELS, 7, 2), (64, 1, 1), (256, 3, 1), (128, 3, 2)]:
        x = torch.randn(2, channels, 50, 68).to(dtype).contiguous(memory_format=last)
        weight = torch.randn(256, channels, side, side) / (channels * side**2) ** 0.5
        weight = weight.to(dtype).contiguous(memory_format=last)
        shape = (stride, stride), (side // 2, side // 2)
        plain = torch.nn.functional.conv2d(x, weight, None, *shape)
        other = torch.randn_like(plain) if residual else None
        for relu in (True, False):
            bias = torch.randn(256).to(dtype if relu else torch.float32)
            expected = steps.convolution(x, weight, bias, other, relu, *shape)
            junk = [torch.full_like(plain, torch.nan) for _ in range(4)]
            del junk
            ours = kernels.convolution(x, weight, bias, other, relu, *shape)
            torch.testing.assert_close(ours, expected, atol=allowed, rtol=allowed)


@pytest.mark.parametrize("side,stride", [(7, 2), (1, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_fused_convolution_hides_no_overflow(
    side: int, stride: int, dtype: torch.dtype, on_the_gpu: None
) -> None:
    """max(0, .) of what is no number is none, or a micro-batch would not be known to be wrong."""
    x = torch.randn(1, 64, 50, 68).to(dtype).contiguous(memory_format=torch.channels_last)
    x[:, ::2, 20:30, 20:30] = torch.inf  # times weights of either sign
    weight = torch.randn(64, 64, side, side).to(dtype).contiguous(memory_format=torch.channels_last)
    bias, shape = torch.randn(64).to(dtype), ((stride, stride), (side // 2, side // 2))
    # not by an algorithm that mixes neighbours
    wrong = torch.nn.functional.conv2d(x.double(), weight.double(), None, *shape).isnan()
    assert wrong.any()
    for residual in (None, torch.zeros_like(wrong, dtype=dtype)):
        assert kernels.convolution(x, weight, bias, residual, True, *shape).isnan()[wrong].all()


def test_maps_of_more_values_than_32_bits_count(on_the_gpu: None) -> None:
    side, channels = 5800, 64
    x = torch.zeros(1, side, side, channels, dtype=torch.float16).permute(0, 3, 1, 2)
    x[..., -40:, -40:] = torch.randn(1, channels, 40, 40)
    expected = steps.max_pool(x[..., -40:, -40:])[..., 1:, 1:]
    torch.testing.assert_close(kernels.max_pool(x)[..., -19:, -19:], expected, atol=0, rtol=0)
    boxes = torch.tensor([[side - 30.0, side - 30.0, side - 4.0, side - 4.0]])
    pooler, level = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2), torch.tensor([0])
    maps = [x, *[x[..., :1, :1]] * 3]
    near = [x[..., -40:, -40:], *maps[1:]]
    found = kernels.roi_align(maps, boxes, level, level, pooler)
    moved = kernels.roi_align(near, boxes - (side - 40), level, level, pooler)
    torch.testing.assert_close(found, moved, atol=0.01, rtol=0)
    assert moved.any()


def test_boxes_are_torchvisions(weights: Weights) -> None:
    """With TF32 off, by kernels and without, recorded and not."""
    reference, pictures = Reference(weights, "cuda"), [picture(*size) for size in SIZES]
    expected = [reference([pixels])[0] for pixels in pictures]
    assert sum(len(boxes.labels) for boxes in expected) > 100
    with device.tf32(False, False):
        for ways in (PLAIN, KERNELS):
            engine = Engine(weights, "cuda", 1, "fp32", ways)
            for _ in range(AFTER + 1):
                found = [engine([pixels])[0] for pixels in pictures]
            assert match(found, expected).tight == 1
            assert (len(engine.graphs.recorded) if engine.graphs else 0) == (
                len({engine.padded_shape(*size) for size in SIZES}) if ways.graphs else 0
            )


def test_half_precision_is_chosen_and_near(weights: Weights) -> None:
    """How near is measured by `benchmarks.gpu`, with a trained network."""
    options = {**weights.options, "min_size": HALF_FROM_SIDE, "max_size": 2 * HALF_FROM_SIDE}
    weights = dataclasses.replace(weights, options=options)
    reference, engine = Reference(weights, "cuda"), Engine(weights, "cuda", 1, "auto")
    assert engine.dtype == chosen_dtype()
    pictures = [picture(480, 640, seed) for seed in range(16)]
    expected = [reference([pixels])[0] for pixels in pictures]
    assert match(engine(pictures), expected).loose > 0.85


def chosen_dtype() -> torch.dtype:
    return torch.float16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float32


def test_two_threads_find_the_same(weights: Weights) -> None:
    engine = Engine(weights, "cuda", 1, "fp16")
    pictures = [picture(*size) for size in SIZES] * 10
    alone = [engine([pixels])[0] for pixels in pictures]

    def call(pixels: np.ndarray) -> Boxes:
        return engine([pixels])[0]

    with ThreadPoolExecutor(2) as threads:
        for ours, expected in zip(threads.map(call, pictures), alone, strict=True):
            np.testing.assert_allclose(ours.xyxy, expected.xyxy, atol=1e-3)
            np.testing.assert_array_equal(ours.labels, expected.labels)


def test_memory_that_is_short(weights: Weights) -> None:
    """Graphs are given up, the micro-batch is refused, and one image goes on."""
    engine, pixels = Engine(weights, "cuda", 1, "fp32"), picture(480, 640)
    for _ in range(AFTER + 1):
        (before,) = engine([pixels])
    room = torch.cuda.memory_allocated() + 600 * 2**20
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.mem_get_info()[1])
    try:
        with pytest.raises(ShortOfMemory):
            engine([pixels] * 64)
        assert engine.graphs is None
        (after,) = engine([pixels])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(after.xyxy, before.xyxy, atol=0.01)
