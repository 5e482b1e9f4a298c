"""Where a micro-batch's time goes: kernel by kernel, and part by part."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, record_function

from benchmarks.gpu.rates import SHAPE
from benchmarks.gpu.record import Record
from benchmarks.gpu.scene import Scene, Variant
from benchmarks.gpu.timing import WARM

MICRO_BATCHES, KERNELS = 5, 25
# of the engine; what is recorded as one graph is not taken apart
PARTS = ("_given", "_body", "_pyramid", "_proposals", "_box_head", "_detections")


def run(record: Record) -> None:
    scene = Scene(record.asked)
    weights = scene.wide()
    for variant in scene.few(scene.variants()):
        if variant.precision == "fp32" and variant.graphs:
            continue  # what launches take from the GPU shows in fp16
        record.attempt(variant.name, _profile, record, scene, variant, weights)


def _profile(record: Record, scene: Scene, variant: Variant, weights: Any) -> None:
    scene.clear()
    engine = variant.engine(weights, scene.where)
    batch = scene.shaped([SHAPE] * scene.micro_batch)
    number = 1 if scene.tiny else MICRO_BATCHES
    parts = () if variant.graphs else PARTS
    for name in parts:
        setattr(engine, name, _named(name, getattr(engine, name)))
    for _ in range(WARM if scene.gpu else 1):
        engine(batch)
    scene.synchronize()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * scene.gpu
    with torch.profiler.profile(activities=activities) as profiler:
        started = time.perf_counter()
        for _ in range(number):
            engine(batch)
        scene.synchronize()
        wall = (time.perf_counter() - started) / number * 1e3
    events = list(profiler.key_averages())
    spent = _time(scene)
    kernels = [event for event in events if _counts(scene, event, parts)]
    kernels.sort(key=spent, reverse=True)
    busy = sum(map(spent, kernels)) / number
    launches = sum(event.count for event in kernels) / number
    record.say(variant.name, wall=wall, busy=busy, share=busy / wall, launches=launches)
    for name in parts:
        record.say(f"{variant.name}: {name[1:]}", **_part(scene, name, events, number))
    lines = [f"== {variant.name}: {wall:.2f} ms a micro-batch of {len(batch)}, {busy:.2f} ms busy"]
    for event in kernels[:KERNELS]:
        each = spent(event) / number
        lines.append(f"{each:9.4f} ms {event.count / number:7.1f} x {event.key[:140]}")
    with Path(record.asked.out, "profile.txt").open("a") as file:
        file.write("\n".join(lines) + "\n")


def _named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def named(*arguments: Any, **keywords: Any) -> Any:
        with record_function(name):
            return function(*arguments, **keywords)

    return named


def _part(scene: Scene, name: str, events: list[Any], number: int) -> dict[str, float]:
    """Milliseconds of all kernels of a part, and from its first one to the end of its last."""
    total = "device_time_total" if scene.gpu else "cpu_time_total"
    found = {}
    for event in events:
        if event.key == name:
            column = "wall" if _on_device(event) else "busy"
            found[column] = getattr(event, total) / 1e3 / number
    return found


def _on_device(event: Any) -> bool:
    return bool(event.device_type != torch._C._autograd.DeviceType.CPU)


def _counts(scene: Scene, event: Any, parts: Sequence[str]) -> bool:
    """Whether it is a kernel; on a CPU, an operation."""
    return _on_device(event) == scene.gpu and event.key not in parts and _time(scene)(event) > 0


def _time(scene: Scene) -> Callable[[Any], float]:
    """Milliseconds of an event, without those within it."""
    name = "self_device_time_total" if scene.gpu else "self_cpu_time_total"
    return lambda event: float(getattr(event, name)) / 1e3
