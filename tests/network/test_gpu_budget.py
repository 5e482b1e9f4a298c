"""What a forward launches on a GPU and moves there: held to budgets without one.

A step that costs more on purpose raises its numbers here; `python -m tests.support.fake_cuda`
prints the new ones, by stage.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.network.contract import Engine as AnyEngine
from pipeline.network.engine import DTYPES, Engine
from tests.support.fake_cuda import IMAGES, Counter, FakeCuda, Refused

# precision, images: operations on the device, as many as there are; MB moved, half a percent more
BUDGETS = {
    ("fp32", 1): (991, 11_770),
    ("fp32", 3): (1_003, 34_930),
    ("fp32", 8): (1_033, 92_830),
    ("fp16", 1): (998, 6_910),
    ("fp16", 3): (1_010, 20_550),
    ("fp16", 8): (1_040, 54_640),
}
# copies to the device from memory that is not pinned, of a whole forward
PAGEABLE = 0


@pytest.fixture(scope="module")
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture(scope="module")
def engines(cuda: FakeCuda) -> dict[str, AnyEngine]:
    return {precision: cuda.engine(precision=precision) for precision in DTYPES}


def excess(counter: Counter, precision: str, images: int) -> list[str]:
    """What is above the budget."""
    operations, megabytes = BUDGETS[precision, images]
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
@pytest.mark.parametrize("precision", DTYPES)
def test_a_forward_keeps_its_budget(
    cuda: FakeCuda, engines: dict[str, AnyEngine], precision: str, images: int
) -> None:
    """At once, too: whatever would wait for the device, or has no kernel there, is refused."""
    counter = cuda.count(engines[precision], images)
    assert all(work.operations for work in counter.stages.values()), counter.table()
    above = excess(counter, precision, images)
    assert not above, f"{'; '.join(above)}\n{counter.table()}"


@pytest.mark.parametrize("pin", [True, False])
def test_an_upload_that_is_not_pinned_is_above_the_budget(cuda: FakeCuda, pin: bool) -> None:
    class Uploading(Engine):
        def _body(self, x: Tensor) -> list[Tensor]:
            scale = torch.ones(2, pin_memory=True)[:1] if pin else torch.ones(1)
            scale.to(self.device, non_blocking=True)
            return super()._body(x)

    above = excess(cuda.count(cuda.engine(Uploading), 1), "fp32", 1)
    assert [text for text in above if "not pinned" in text] == (
        [] if pin else ["1 copies from memory that is not pinned, not 0"]
    )


class Wasteful(Engine):
    """Reads and writes each map once more than it has to."""

    def _body(self, x: Tensor) -> list[Tensor]:
        return [y + 0 for y in super()._body(x)]


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("precision", DTYPES)
def test_one_pass_too_many_is_above_the_budget(
    cuda: FakeCuda, engines: dict[str, AnyEngine], precision: str, images: int
) -> None:
    lean = cuda.count(engines[precision], images)
    wasteful = cuda.count(cuda.engine(Wasteful, precision), images)
    assert len(excess(wasteful, precision, images)) == 2
    maps = sum(256 * 2**i * (200 >> i) * (272 >> i) for i in range(4)) * images
    size = torch.empty((), dtype=DTYPES[precision]).element_size()
    assert wasteful.total.moved - lean.total.moved == 2 * maps * size
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
}


@pytest.mark.parametrize("what", CARELESS)
def test_what_a_gpu_must_not_be_asked_for(cuda: FakeCuda, what: str) -> None:
    step, why = CARELESS[what]

    class Careless(Engine):
        def _pyramid(self, maps: list[Tensor]) -> list[Tensor]:
            step(maps[-1])
            return super()._pyramid(maps)

    with pytest.raises(Refused, match=f"pyramid: .*{why}"):
        cuda.count(cuda.engine(Careless), 1)
