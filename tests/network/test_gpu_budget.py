"""What a forward launches on a GPU and moves there: held to budgets without one.

A step that costs more on purpose raises its numbers here, one that costs less lowers them;
`python -m tests.support.fake_cuda` prints the new ones, and what they consist of.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from pipeline.network import kernels
from pipeline.network.engine import Engine
from pipeline.network.precision import DTYPES
from pipeline.network.ways import PLAIN
from tests.support.fake_cuda import IMAGES, REST, STAGES, WAYS, Counter, FakeCuda, Refused

# ways, precision, images: operations on the device, as many as there are; MB moved, half a percent
# more
BUDGETS = {
    ("plain", "fp32", 1): (878, 11_570),
    ("plain", "fp32", 3): (892, 34_310),
    ("plain", "fp32", 8): (927, 91_150),
    ("plain", "fp16", 1): (899, 7_020),
    ("plain", "fp16", 3): (913, 20_640),
    ("plain", "fp16", 8): (948, 54_680),
    ("kernels", "fp32", 1): (371, 4_600),
    ("kernels", "fp32", 3): (373, 13_390),
    ("kernels", "fp32", 8): (378, 35_390),
    ("kernels", "fp16", 1): (371, 2_340),
    ("kernels", "fp16", 3): (373, 6_820),
    ("kernels", "fp16", 8): (378, 18_010),
}
# what they shall never be raised above
GOALS = {("kernels", "fp16", 8): (450, 26_000)}
# copies to the device from memory that is not pinned, of a whole forward
PAGEABLE = 0


@pytest.fixture(scope="module")
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture(scope="module", params=[(ways, name) for ways in WAYS for name in DTYPES])
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Ways and precision of an engine."""
    ways, precision = request.param
    return ways, precision


@pytest.fixture(scope="module")
def engine(cuda: FakeCuda, kind: tuple[str, str]) -> Engine:
    ways, precision = kind
    return cuda.engine(precision=precision, ways=ways)


@pytest.fixture(scope="module")
def plain(cuda: FakeCuda) -> Engine:
    return cuda.engine()


def changed(engine: Engine, other: type[Engine]) -> Engine:
    """The engine, of another class; to build one takes longer than all that is counted of it."""
    engine = copy.copy(engine)
    engine.__class__ = other
    return engine


def excess(counter: Counter, kind: tuple[str, str], images: int) -> list[str]:
    """What is above the budget."""
    operations, megabytes = BUDGETS[*kind, images]
    total = counter.total
    found = []
    if total.operations > operations:
        found.append(f"{total.operations:,} operations, not {operations:,}")
    if total.moved > megabytes * 1e6:
        found.append(f"{total.moved / 1e6:,.0f} MB, not {megabytes:,}")
    if total.pageable > PAGEABLE:
        found.append(f"{total.pageable} copies from memory that is not pinned, not {PAGEABLE}")
    return found


@pytest.mark.parametrize("images", IMAGES)
def test_a_forward_keeps_its_budget(
    cuda: FakeCuda, engine: Engine, kind: tuple[str, str], images: int
) -> None:
    """At once, too: whatever would wait for the device, or has no kernel there, is refused."""
    counter = cuda.count(engine, images)
    assert all(work.operations for work in counter.stages.values()), counter.table()
    above = excess(counter, kind, images)
    assert not above, f"{'; '.join(above)}\n{counter.table()}\n{counter.operations()}"
    if WAYS[kind[0]] != PLAIN:
        # a recording would read memory of the host again that is another's by then
        stages = counter.stages.keys() - {STAGES["_given"], REST}
        assert not any(counter.stages[stage].host for stage in stages), counter.table()


@pytest.mark.parametrize("kind", GOALS)
def test_a_budget_keeps_its_goal(kind: tuple[str, str, int]) -> None:
    assert all(ours <= goal for ours, goal in zip(BUDGETS[kind], GOALS[kind], strict=True))


@pytest.mark.parametrize("pin", [True, False])
def test_an_upload_that_is_not_pinned_is_above_the_budget(
    cuda: FakeCuda, plain: Engine, pin: bool
) -> None:
    class Uploading(Engine):
        def _body(self, x: Tensor) -> list[Tensor]:
            scale = torch.ones(2, pin_memory=True)[:1] if pin else torch.ones(1)
            scale.to(self.device, non_blocking=True)
            return super()._body(x)

    above = excess(cuda.count(changed(plain, Uploading), 1), ("plain", "fp32"), 1)
    assert [text for text in above if "not pinned" in text] == (
        [] if pin else ["1 copies from memory that is not pinned, not 0"]
    )


def on_the_host(*shape: int) -> Tensor:
    return torch.empty(shape, memory_format=torch.channels_last)


def on_the_device(*shape: int, dtype: torch.dtype = torch.float16) -> Tensor:
    """A map, channels_last; or something else if it has no four sides."""
    order = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device="cuda", memory_format=order)


def fused(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None = None) -> Tensor:
    shape = ((1, 1), (0, 0), (1, 1), 1)
    if residual is None:
        return torch.cudnn_convolution_relu(x, weight, bias, *shape)
    return torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, *shape)


def pooled(boxes: int) -> Tensor:
    maps = [on_the_device(2, 8, 32 >> i, 32 >> i) for i in range(4)]
    image = level = on_the_device(boxes, dtype=torch.int64)
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    return kernels.roi_align(maps, on_the_device(boxes, 4, dtype=FULL), image, level, pooler)


FULL = torch.float32
# a map of half a kilobyte in float16, and what is done to it, in one operation, to as many bytes
MAP = (2, 8, 4, 4)
MOVING: dict[str, tuple[Callable[[], object], int]] = {
    "an epilogue": (
        lambda: kernels.epilogue(on_the_device(*MAP), on_the_device(8, dtype=FULL), None),
        512 + 32 + 512,
    ),
    "an epilogue of a small residual": (
        lambda: kernels.epilogue(
            on_the_device(*MAP), on_the_device(8, dtype=FULL), on_the_device(2, 8, 2, 2, dtype=FULL)
        ),
        512 + 32 + 256 + 512,
    ),
    "a fused convolution": (
        lambda: fused(on_the_device(*MAP), on_the_device(8, 8, 1, 1), on_the_device(8)),
        512 + 128 + 16 + 512,
    ),
    "a fused convolution and sum": (
        lambda: fused(
            on_the_device(*MAP), on_the_device(8, 8, 1, 1), on_the_device(8), on_the_device(*MAP)
        ),
        512 + 128 + 16 + 512 + 512,
    ),
    "a layer": (
        lambda: torch.mm(on_the_device(4, 8), on_the_device(16, 8).T, out_dtype=FULL),
        64 + 256 + 256,
    ),
    "a pool": (lambda: kernels.max_pool(on_the_device(*MAP)), 512 + 128),
    # of each of 49 values of 8 channels, 16 pixels are read
    "boxes": (lambda: pooled(3), 3 * (16 + 2 * 8) + 3 * 49 * 16 * (1 + 16)),
    "an image": (
        lambda: kernels.transform(
            on_the_device(5, 6, 3, dtype=torch.uint8),
            *(on_the_device(*MAP)[0], (3, 4)),
            *(on_the_device(3, dtype=FULL), on_the_device(3, dtype=FULL)),
        ),
        90 + 256 + 12 + 12,
    ),
}


@pytest.mark.parametrize("what", MOVING)
def test_what_a_kernel_moves(cuda: FakeCuda, what: str) -> None:
    step, moved = MOVING[what]
    with cuda.counting() as counter:
        step()
    assert (counter.total.operations, counter.total.moved) == (1, moved), counter.operations()


def test_a_map_in_another_order_is_copied_first(cuda: FakeCuda) -> None:
    with cuda.counting() as counter:
        x = on_the_device(*MAP)
        fused(x[:, :, ::2, ::2], on_the_device(8, 8, 1, 1), on_the_device(8))
    assert counter.total.operations == 2
    assert counter.total.moved == 128 + 128 + 128 + 128 + 16 + 128


class Wasteful(Engine):
    """Reads and writes each map once more than it has to."""

    def _body(self, x: Tensor) -> list[Tensor]:
        return [y + 0 for y in super()._body(x)]


def test_one_pass_too_many_is_above_the_budget(
    cuda: FakeCuda, engine: Engine, kind: tuple[str, str]
) -> None:
    (_, precision), images = kind, IMAGES[-1]
    lean = cuda.count(engine, images)
    wasteful = cuda.count(changed(engine, Wasteful), images)
    assert len(excess(wasteful, kind, images)) == 2
    maps = sum(256 * 2**i * (200 >> i) * (272 >> i) for i in range(4)) * images
    moved = 2 * maps * DTYPES[precision].itemsize
    assert wasteful.total.moved - lean.total.moved == moved
    for stage, work in lean.stages.items():
        assert wasteful.stages[stage].operations - work.operations == 4 * (stage == "body")


CARELESS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "a value": (lambda x: x.mean().item(), "waits for a value"),
    "a condition": (lambda x: bool((x > 0).any()), "waits for a value"),
    "a slice": (lambda x: x[: x.argmax()], "waits for a value"),
    "places": (lambda x: x.nonzero(), "waits for a value"),
    "a mask": (lambda x: x[x > 0], "waits for a value"),
    "a mask assigned to": (lambda x: x.__setitem__(x > 0, x.amax()), "waits for a value"),
    "all of it": (lambda x: torch.cuda.synchronize(), "waits for all"),
    "a download": (lambda x: x.cpu(), "waits for a copy"),
    "an upload": (lambda x: torch.tensor([1.0], device=x.device), "waits for a copy"),
    "a constant": (lambda x: x.copy_(torch.ones(1)), "waits for a copy"),
    "another device": (lambda x: x + torch.ones(1), "add of tensors of cpu and cuda"),
    "an index of the host": (lambda x: x[torch.tensor([0])], "index of tensors of cpu and cuda"),
    "another type": (lambda x: x[0, 0].half() @ x[0, 0].T, "mm of torch.float16 and torch.float32"),
    "weights of another type": (
        lambda x: F.conv2d(x.half(), x.new_ones(8, x.shape[1], 1, 1)),
        "convolution of torch.float16 and torch.float32",
    ),
    "fused weights of another type": (
        lambda x: fused(x.half(), x.new_ones(8, x.shape[1], 1, 1), x.new_ones(8)),
        "cudnn_convolution_relu of torch.float16 and torch.float32",
    ),
    "a fused residual of another size": (
        lambda x: fused(x, x.new_ones(8, x.shape[1], 1, 1), x.new_ones(8), x[:, :8, ::2]),
        "with another map",
    ),
    "a kernel, of the host's": (
        lambda x: kernels.max_pool(on_the_host(1, 8, 6, 6)),
        "_max_pool of tensors of the host",
    ),
    "a kernel, of both": (
        lambda x: kernels.epilogue(x, torch.ones(x.shape[1]), None),
        "_epilogue of tensors of the host",
    ),
    "a kernel, of nothing": (lambda x: kernels.max_pool(x[:0]), "_max_pool of nothing"),
}


@pytest.mark.parametrize("what", CARELESS)
def test_what_a_gpu_must_not_be_asked_for(cuda: FakeCuda, plain: Engine, what: str) -> None:
    step, why = CARELESS[what]

    class Careless(Engine):
        def _pyramid(self, maps: list[Tensor]) -> list[Tensor]:
            step(maps[-1])
            return super()._pyramid(maps)

    with pytest.raises(Refused, match=f"pyramid: .*{why}"):
        cuda.count(changed(plain, Careless), 1)
