"""Recordings of a forward, and what becomes of them where memory is short; without a GPU."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.network import graphs
from pipeline.network.contract import Boxes, DeviceLost, ShortOfMemory, Weights
from pipeline.network.engine import Engine
from pipeline.network.graphs import AFTER, Graphs
from pipeline.network.ways import PLAIN
from tests.support.matching import picture
from tests.support.recorded_cuda import RecordedCuda

ERRORS = [torch.OutOfMemoryError, torch.AcceleratorError]


@pytest.fixture
def cuda() -> Iterator[RecordedCuda]:
    with RecordedCuda()() as cuda:
        yield cuda


# -------------------------------------------------------------------------- of a function


# of a recording that is not kept
GOING = ("synchronized", "dropped")


class Sums:
    """Graphs of sum and difference of two tensors.

    Attributes:
        calls: of the function, and whether each was recorded.
        fails: what it raises, when it is recorded, and when not.
    """

    def __init__(self, cuda: RecordedCuda) -> None:
        self.cuda, self.graphs, self.values = cuda, Graphs(self.function), itertools.count()
        self.calls: list[bool] = []
        self.fails: dict[bool, Exception] = {}

    def function(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.calls.append(self.cuda.capturing)
        if self.cuda.capturing in self.fails:
            raise self.fails[self.cuda.capturing]
        return x + y, (x * 1).sub_(y)

    def __call__(self, n: int, side: int = 3, other: int = 1) -> str:
        """How new values of these shapes came to the results, which are right."""
        self.calls.clear()
        self.cuda.log.clear()
        a, b = next(self.values), next(self.values)
        found = self.graphs(torch.full((n, side), a), torch.full((n, other), b))
        for ours, value in zip(found, (a + b, a - b), strict=True):
            assert torch.equal(ours, torch.full((n, side), value))
        # before it is recorded, it is called once more
        how = {(False, True): "recorded", (False,): "plain", (): "replayed"}[tuple(self.calls)]
        log = {"recorded": ["recorded", "replayed"], "replayed": ["replayed"], "plain": []}[how]
        assert [what for what in self.cuda.log if what not in GOING] == log
        return how


@pytest.fixture
def sums(cuda: RecordedCuda) -> Sums:
    return Sums(cuda)


def test_what_comes_up_again_and_again_is_recorded_once(sums: Sums) -> None:
    first = ["plain"] * (AFTER - 1) + ["recorded"]
    assert [sums(4) for _ in range(AFTER + 3)] == [*first, *["replayed"] * 3]
    # of all shapes, each for itself
    assert [sums(4, side=5) for _ in range(AFTER + 1)] == [*first, "replayed"]
    assert [sums(4, other=3) for _ in range(AFTER + 1)] == [*first, "replayed"]
    assert [sums(4), sums(4, side=5), sums(4, other=3)] == ["replayed"] * 3


def test_less_than_the_most_is_not_recorded(sums: Sums) -> None:
    assert sums(4) == "plain"
    assert {sums(n, side) for n in (1, 3) for side in (3, 5) for _ in range(AFTER + 1)} == {"plain"}
    assert [sums(5) for _ in range(AFTER)][-1] == "recorded"
    assert {sums(4) for _ in range(AFTER)} == {"plain"}
    # but what was recorded while it was the most is replayed
    assert [sums(6), sums(5)] == ["plain", "replayed"]


def test_the_least_recently_used_goes(sums: Sums, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST", 2)
    for side in (1, 2):
        assert [sums(4, side) for _ in range(AFTER)][-1] == "recorded"
    assert sums(4, 1) == "replayed"
    assert [sums(4, 3) for _ in range(AFTER)][-1] == "recorded"
    # not while it may still be replayed
    assert tuple(what for what in sums.cuda.log if what in GOING) == GOING
    assert [sums(4, 1), sums(4, 3)] == ["replayed"] * 2
    assert [sums(4, 2) for _ in range(AFTER)] == ["plain"] * (AFTER - 1) + ["recorded"]
    assert [sums(4, 3), sums(4, 2)] == ["replayed"] * 2 and len(sums.graphs.recorded) == 2


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("recorded", [False, True])
def test_what_cannot_be_recorded(sums: Sums, error: type[Exception], recorded: bool) -> None:
    """Or called, just before."""
    for _ in range(AFTER - 1):
        sums(4)
    sums.fails = {recorded: error("CUDA says so")}
    with pytest.raises(torch.OutOfMemoryError, match="CUDA says so"):
        sums(4)
    assert sums.calls[-1] == recorded and not sums.graphs.recorded


def test_a_lost_device_is_told_of(sums: Sums) -> None:
    sums.fails = {False: torch.AcceleratorError("CUDA says so")}
    with pytest.raises(torch.AcceleratorError):
        sums(4)


# --------------------------------------------------------------------------- of an engine

# what an engine does, in this order
PLAINLY = ["held", "event", "freed", "waited"]
RECORDED = ["held", "recorded", "replayed", "event", "freed", "waited"]
REPLAYED = ["held", "replayed", "event", "freed", "waited"]
GRAPHS_GONE = ["held", "synchronized", "dropped", "emptied", "freed"]
EMPTIED = ["held", "emptied", "freed"]
FAILED = ["held", "freed"]


class Lock:
    """Notes when it is taken."""

    def __init__(self, log: list[str]) -> None:
        self.log, self.held = log, False

    def __enter__(self) -> None:
        assert not self.held
        self.held = True
        self.log.append("held")

    def __exit__(self, *raised: object) -> None:
        self.held = False
        self.log.append("freed")


@pytest.fixture(scope="module")
def small(calibrated: Weights) -> Iterator[Engine]:
    """An engine that has so little to do that a second thread would cost more than it does."""
    options = {"min_size": 64, "max_size": 96, "rpn_post_nms_top_n_test": 8}
    weights = dataclasses.replace(calibrated, options=calibrated.options | options)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with RecordedCuda()():
        engine = Engine(weights, "cuda", 1, "fp32", dataclasses.replace(PLAIN, graphs=True))
    yield engine
    torch.set_num_threads(threads)


@pytest.fixture
def engine(small: Engine, cuda: RecordedCuda, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The same, without a recording; when its lock is taken is in the log."""
    assert small.graphs
    engine = copy.copy(small)
    engine.graphs = Graphs(engine._found)
    monkeypatch.setattr(engine, "launching", Lock(cuda.log))
    return engine


def call(engine: Engine, cuda: RecordedCuda, *images: np.ndarray) -> tuple[list[Boxes], list[str]]:
    cuda.log.clear()
    return engine(images), cuda.log[:]


def test_a_forward_is_recorded(
    engine: Engine, cuda: RecordedCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is launched behind a lock has come to the host before it is read."""
    monkeypatch.setattr(graphs, "AFTER", 1)
    without = copy.copy(engine)
    without.graphs = None
    # of one padded shape, but not of one size
    for height, recorded in [(96, RECORDED), (90, REPLAYED)]:
        (expected,), log = call(without, cuda, picture(height, 128))
        assert log == PLAINLY and len(expected.labels) > 10
        (found,), log = call(engine, cuda, picture(height, 128))
        assert log == recorded
        for name, values in dataclasses.asdict(expected).items():
            np.testing.assert_array_equal(getattr(found, name), values)


class Whole:
    """In place of the network: of each image one box, that is all of it.

    Attributes:
        fails: what is raised first, before it finds anything.
        recorded: whether only a recording fails.
        ways: how it was called, and whether it was recorded.
        room: whether there is enough for what comes up at once.
    """

    def __init__(self, cuda: RecordedCuda) -> None:
        self.cuda, self.recorded, self.room = cuda, False, True
        self.fails: list[Exception] = []
        self.ways: list[tuple[bool | None, bool]] = []

    def __call__(
        self, batch: Tensor, known: Tensor, at_once: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        self.ways.append((at_once, self.cuda.capturing))
        if self.fails and self.cuda.capturing >= self.recorded:
            raise self.fails.pop(0)
        ones = torch.ones(len(batch), 3)
        values = torch.cat((ones[:, :2] * 0, known[:, :2], ones), 1)
        return values[:, None], torch.tensor([self.room or at_once is False, True])


@pytest.fixture
def whole(engine: Engine, cuda: RecordedCuda, monkeypatch: pytest.MonkeyPatch) -> Whole:
    """What the engine calls; for two images that is recorded already."""
    monkeypatch.setattr(graphs, "AFTER", 1)
    whole = Whole(cuda)
    monkeypatch.setattr(engine, "_found", whole)
    engine.graphs = Graphs(whole)
    assert finds_all(engine, cuda, 2) == RECORDED
    return whole


def finds_all(engine: Engine, cuda: RecordedCuda, count: int, width: int = 128) -> list[str]:
    """The box of each image is found; returns what was done."""
    found, log = call(engine, cuda, *[picture(96, width, seed) for seed in range(count)])
    for boxes in found:
        np.testing.assert_allclose(boxes.xyxy, [[0, 0, width, 96]], rtol=1e-6)
    return log


def test_what_has_no_room_is_done_again_without_a_recording(
    engine: Engine, whole: Whole, cuda: RecordedCuda
) -> None:
    whole.room, again = False, ["held", "freed"]
    for log, ways in [(RECORDED, [(None, False), (None, True)]), (REPLAYED, [])]:
        whole.ways.clear()
        assert finds_all(engine, cuda, 2, width=96) == [*log, *again]
        assert whole.ways == [*ways, (False, False)]


@pytest.mark.parametrize("error", ERRORS)
def test_where_nothing_can_be_recorded(
    engine: Engine, whole: Whole, cuda: RecordedCuda, error: type[Exception]
) -> None:
    whole.fails, whole.recorded = [error("CUDA says so")], True
    log = finds_all(engine, cuda, 2, width=96)
    assert [what for what in log if what != "dropped"] == (
        ["held", "failed", "freed", "held", "synchronized", "emptied", "freed", *PLAINLY]
    )
    # nor is anything held any more of what failed
    assert log.count("dropped") == 2 and "dropped" not in log[log.index("emptied") :]
    assert not whole.fails and engine.graphs is None
    assert finds_all(engine, cuda, 2) == PLAINLY


def test_memory_that_is_short(engine: Engine, whole: Whole, cuda: RecordedCuda) -> None:
    """Graphs are given up first, if there are some, and then the micro-batch."""
    for times, log in [(2, [*FAILED, *GRAPHS_GONE]), (1, [])]:
        whole.fails = [torch.OutOfMemoryError("CUDA says so") for _ in range(times)]
        cuda.log.clear()
        with pytest.raises(ShortOfMemory, match="CUDA says so"):
            engine([picture(96, 128)])
        assert cuda.log == [*log, *FAILED, *EMPTIED]
    assert finds_all(engine, cuda, 1) == PLAINLY


def test_memory_that_is_enough_without_graphs(
    engine: Engine, whole: Whole, cuda: RecordedCuda
) -> None:
    whole.fails = [torch.OutOfMemoryError("CUDA says so")]
    assert finds_all(engine, cuda, 1) == [*FAILED, *GRAPHS_GONE, *PLAINLY]
    assert engine.graphs is None


@pytest.mark.parametrize("images", [1, 2])
def test_a_device_that_is_lost(
    engine: Engine, whole: Whole, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    """In a plain call or in a replay."""

    def fails(*given: Any) -> None:
        raise torch.AcceleratorError("CUDA says so")

    whole.fails = [torch.AcceleratorError("CUDA says so")]
    monkeypatch.setattr("tests.support.recorded_cuda._Graph.replay", fails)
    with pytest.raises(DeviceLost, match="CUDA says so"):
        engine([picture(96, 128)] * images)


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_device_of_which_others_say_that_it_is_lost(
    engine: Engine, whole: Whole, monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    """Triton's and cuDNN's errors are of no type of their own; an image may be the cause, too."""

    def synchronize() -> None:
        if is_lost:
            raise torch.AcceleratorError("CUDA says so")

    whole.fails = [RuntimeError("Triton Error [CUDA]: unspecified launch failure")]
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    with pytest.raises(
        DeviceLost if is_lost else RuntimeError, match="says so" if is_lost else "Triton"
    ):
        engine([picture(96, 128)])


def test_a_device_that_is_lost_in_a_recording(
    engine: Engine, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which looks as if memory were short, until the device is asked again."""

    def fails() -> None:
        raise torch.AcceleratorError("CUDA says so")

    whole.fails, whole.recorded = [torch.AcceleratorError("CUDA says so")], True
    monkeypatch.setattr(torch.cuda, "synchronize", fails)
    with pytest.raises(DeviceLost, match="CUDA says so"):
        engine([picture(96, 96)] * 2)
