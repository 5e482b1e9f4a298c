"""Rates of several forwards in rotation, each by as many threads as it gains from."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.record import Record
from benchmarks.gpu.scene import Scene
from pipeline.bench import device
from pipeline.bench.rows import Forward
from pipeline.bench.throughput import throughput, workers
from pipeline.network.contract import Boxes

Batch = Sequence[np.ndarray]
# calls before any is timed: with graphs, the first ones of a shape are not replayed
WARM = 4


@dataclass
class Row:
    """What is measured.

    Attributes:
        name: in the table.
        arithmetic: of its products, see `device.peaks`.
        build: makes what turns a batch into boxes.
        batches: of decoded images; one pass over all of them is the least that is timed.
        tf32: of `device.rounding` where it is built and called.
        warm: passes before that; if more than one, over a batch of each kind.
        theirs: whether it is torchvision's own.
        forward, peak, held, graphs, boxes: when it is warm: what was built; GB of the GPU's memory
            that it took at most, and that it keeps; how many graphs; detections an image.
        threads: that call it, see `workers`.
        rates: images a second in each of its turns.
    """

    name: str
    arithmetic: str
    build: Callable[[], Forward]
    batches: Sequence[Batch]
    tf32: bool = True
    warm: int = 1
    theirs: bool = False
    forward: Forward | None = None
    peak: float | None = None
    held: float | None = None
    graphs: int | None = None
    boxes: float = 0.0
    threads: list[ThreadPoolExecutor] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def rotate(
    record: Record, scene: Scene, rows: Iterable[Row], seconds: float, turns: int = 3
) -> list[Row]:
    """Warm all of them, then give each its turns of so long at least; those that raise drop out.

    Returns:
        Those that have been measured.
    """
    turns, seconds = (1, 0.1) if scene.tiny else (turns, seconds)
    alive = []
    for row in rows:
        record.attempt(row.name, _warm, scene, row)
        alive += [row] if row.forward else []
    for _ in range(turns):
        for row in alive:
            record.attempt(row.name, _turn, scene, row, seconds)
            # whatever becomes of the turns to come
            record.say(f"{row.name}: turns", rates=row.rates, shown=False)
        alive = [row for row in alive if row.rates]
    return alive


def _warm(scene: Scene, row: Row) -> None:
    before = reserved = 0
    scene.clear()
    if scene.gpu:
        before, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        torch.cuda.reset_peak_memory_stats()
    with device.rounding(row.tf32):
        forward = row.build()
        row.threads = workers(forward)
        found = warmed(row.threads, forward, row.batches, row.warm)
        scene.synchronize()
    row.boxes = statistics.mean(len(boxes.labels) for boxes in found)
    if scene.gpu:
        row.peak = (torch.cuda.max_memory_allocated() - before) / 1e9
        scene.clear()
        row.held = (torch.cuda.memory_reserved() - reserved) / 1e9
        graphs = getattr(forward, "graphs", None)
        row.graphs = len(graphs.recorded) if graphs else None
    row.forward = forward


def warmed(
    threads: Sequence[ThreadPoolExecutor], forward: Any, batches: Sequence[Batch], passes: int
) -> list[Boxes]:
    """So many passes by each thread, and what is found; see `Row`."""
    if passes > 1:
        # one of each padded shape and number of images, as each has a graph of its own
        shapes = [(forward.padded_shape(*batch[0].shape[:2]), len(batch)) for batch in batches]
        batches = list(dict(zip(shapes, batches, strict=True)).values())

    def one_pass() -> list[Boxes]:
        return [boxes for batch in batches for boxes in forward(batch)]

    for thread in [*threads] * passes:
        found = thread.submit(one_pass).result()
    return found


def _turn(scene: Scene, row: Row, seconds: float) -> None:
    """One more of its rates, over whole passes of so many seconds at least."""
    assert row.forward
    batches = itertools.cycle(row.batches)
    with device.rounding(row.tf32):
        number, where = len(row.batches), scene.where
        row.rates.append(throughput(row.forward, batches, number, seconds, row.threads, where))
