"""Each step of the forward by itself, on what a micro-batch gives it, plain and by kernels."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.rates import SHAPE
from benchmarks.gpu.record import Record
from benchmarks.gpu.scene import Scene, Variant
from pipeline.bench import device
from pipeline.network.contract import Weights
from pipeline.network.ways import Ways

# seconds that a step is repeated for
LEAST, MOST_REPEATS = 0.005, 20
# of a GPU, some milliseconds in which it is given all repetitions: it never waits for the host
AHEAD_CYCLES = 10_000_000


@dataclass
class Call:
    """What a step was given, and how often it was given such.

    Attributes:
        step: its name in `Ways`.
        arguments, keywords: of the first time.
        times: of as many shapes and settings.
    """

    step: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    times: int = 0


@dataclass
class Sum:
    """Of all calls of a step: milliseconds, those of the convolutions alone, and GFLOP."""

    calls: int = 0
    busy: float = 0.0
    conv: float = 0.0
    gflop: float = 0.0


@dataclass
class Recorder:
    """Notes what the steps of an engine are given.

    Attributes:
        calls: by step, shapes and settings.
        on: whether it notes anything.
    """

    calls: dict[str, Call] = field(default_factory=dict)
    on: bool = False

    def ways(self, ways: Ways) -> Ways:
        """The same, each step noted."""
        noted: dict[str, Any] = {k: self._noted(k, getattr(ways, k)) for k in steps_of(ways)}
        return dataclasses.replace(ways, **noted)

    def _noted(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **keywords: Any) -> Any:
            if self.on:
                key = f"{step} {_form(arguments)} {_form(keywords)}"
                self.calls.setdefault(key, Call(step, arguments, keywords)).times += 1
            return function(*arguments, **keywords)

        return noted


def steps_of(ways: Ways) -> list[str]:
    """Those that are functions."""
    names = [one.name for one in dataclasses.fields(ways)]
    return [name for name in names if callable(getattr(ways, name))]


def run(record: Record) -> None:
    scene = Scene(record.asked)
    weights, peaks = scene.wide(), device.peaks(scene.where)
    for variant in scene.few(scene.variants()):
        if not variant.graphs:
            record.attempt(variant.name, _measure, record, scene, variant, weights, peaks)


def _measure(
    record: Record, scene: Scene, variant: Variant, weights: Weights, peaks: dict[str, float]
) -> None:
    scene.clear()
    recorder = Recorder()
    noted = dataclasses.replace(variant, ways=recorder.ways(variant.ways))
    engine = noted.engine(weights, scene.where)
    batch = scene.shaped([SHAPE] * scene.micro_batch)
    engine(batch)
    recorder.on = True
    engine(batch)
    peak = peaks[scene.arithmetic(variant.precision)]
    sums: dict[str, Sum] = {}
    for key, call in recorder.calls.items():
        one = _timed(scene, variant.ways, call)
        total = sums.setdefault(call.step, Sum())
        total.calls += call.times
        for name in ("busy", "conv", "gflop"):
            setattr(total, name, getattr(total, name) + call.times * getattr(one, name))
        row = dataclasses.asdict(dataclasses.replace(one, calls=call.times))
        record.say(f"{variant.name}: {key}", **row, floor=_share(one, peak), shown=False)
    for step, total in sums.items():
        record.say(
            f"{variant.name}: {step}",
            **{name: value or None for name, value in dataclasses.asdict(total).items()},
            floor=_share(total, peak),
        )


@torch.inference_mode()
def _timed(scene: Scene, ways: Ways, call: Call) -> Sum:
    """Of one call."""
    function = getattr(ways, call.step)
    found = Sum(1, _milliseconds(scene, lambda: function(*call.arguments, **call.keywords)))
    if call.step == "convolution":
        x, weight = call.arguments[:2]
        stride, padding = call.arguments[5:7]

        def conv() -> Tensor:
            return F.conv2d(x, weight, None, stride, padding)

        y = conv()
        found.gflop = 2 * y.numel() * weight[0].numel() / 1e9
        found.conv = _milliseconds(scene, conv)
    elif call.step == "linear":
        x, weight = call.arguments[:2]
        found.gflop = 2 * x.numel() * len(weight) / 1e9
    return found


def _share(found: Sum, peak: float) -> float | None:
    """Of the rate that the peak [TFLOP/s] would allow."""
    return found.gflop / found.busy / peak if found.gflop else None


def _milliseconds(scene: Scene, function: Callable[[], Any]) -> float:
    """Mean over as many calls as take long enough."""
    function()
    scene.synchronize()
    started = time.perf_counter()
    function()
    scene.synchronize()
    once = time.perf_counter() - started
    repeats = 1 if scene.tiny else max(1, min(MOST_REPEATS, round(LEAST / once)))
    if not scene.gpu:
        started = time.perf_counter()
        for _ in range(repeats):
            function()
        return (time.perf_counter() - started) / repeats * 1e3
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(AHEAD_CYCLES)
    start.record()
    for _ in range(repeats):
        function()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / repeats


def _form(value: Any) -> str:
    """What tells calls apart: shapes and types of tensors, and other values."""
    if isinstance(value, Tensor):
        return f"{'x'.join(map(str, value.shape))}:{str(value.dtype)[6:]}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_form, value))})"
    if isinstance(value, dict):
        return _form(list(value.items()))
    return str(value) if isinstance(value, (int, float, str, bool, type(None))) else "."
