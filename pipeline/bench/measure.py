"""The measurement: a warm-up of every row, then round after round of each row's turn."""

from __future__ import annotations

import contextlib
import itertools
import logging
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from pipeline.bench import device
from pipeline.bench.extent import Extent
from pipeline.bench.feed import Feed, in_order
from pipeline.bench.matching import match
from pipeline.bench.report import Report, Result
from pipeline.bench.rows import Forward, Reference, Row, rows
from pipeline.bench.throughput import throughput, workers
from pipeline.network.contract import Boxes, Weights
from pipeline.network.cost import Cost

log = logging.getLogger(__name__)
# of each thread on a GPU: what comes up again and again is recorded by then
WARM_PASSES = 2


@dataclass
class Measured:
    """A row that is warm, and what is known of it.

    Attributes:
        row: which.
        forward: what it has built.
        threads: that call it, see `workers`.
        warm_up: seconds of building it and of first passes over all its batches.
        peak_memory: bytes of the GPU's memory that it took at most beside the other rows; None on
            a CPU.
        found: boxes of each image.
        rates: images a second in each of its turns.
    """

    row: Row
    forward: Forward
    threads: list[ThreadPoolExecutor]
    warm_up: float
    peak_memory: int | None
    found: list[Boxes]
    rates: list[float] = field(default_factory=list)


def measure(weights: Weights, encoded: Sequence[bytes], extent: Extent) -> Report:
    """Measure all rows on the same images.

    Args:
        weights: of the network.
        encoded: the images.
        extent: how much.
    """
    if extent.device == "cpu":
        torch.set_num_threads(extent.threads)
    feed = Feed(encoded, extent.threads)
    sizes = feed.sizes()
    cost = Cost(weights.options)
    shapes = [cost.padded_shape(*size) for size in sizes]
    gflop = statistics.mean(cost.gflop(shape) for shape in shapes)
    peaks = device.peaks(extent.device)
    log.info("%d images of %d padded shapes, %.0f GFLOP each", len(sizes), len(set(shapes)), gflop)
    reference = _reference(weights, feed, extent)
    measured = [_warmed(row, feed, extent.device) for row in rows(weights, shapes, extent)]
    _rotate(measured, feed, extent)
    eager = measured[0].rates
    return Report(
        device=device.name(extent.device),
        settings=device.settings(extent.device),
        model_id=weights.model_id,
        options=weights.options,
        extent=extent,
        sizes=sizes,
        padded_shapes=len(set(shapes)),
        gflop_per_image=gflop,
        peak_tflops=peaks,
        reference_detections=sum(len(boxes.labels) for boxes in reference),
        rows=[_result(one, eager, reference, peaks, gflop) for one in measured],
    )


def _reference(weights: Weights, feed: Feed, extent: Extent) -> list[Boxes]:
    forward = Reference(weights, extent.device)
    return [forward(pixels)[0] for _, pixels in feed(in_order(extent.images, 1))]


def _warmed(row: Row, feed: Feed, where: str) -> Measured:
    gpu = where == "cuda"
    before = torch.cuda.memory_allocated() if gpu else 0
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    started = time.monotonic()
    with device.rounding(row.tf32):
        forward = row.build()
        threads = workers(forward)
        for thread in threads * (WARM_PASSES if gpu else 1):
            found = thread.submit(_pass, row, forward, feed).result()
        device.synchronize(where)
    seconds = time.monotonic() - started
    log.info("%s is warm after %.1f s", row.name, seconds)
    peak = torch.cuda.max_memory_allocated() - before if gpu else None
    return Measured(row, forward, threads, seconds, peak, found)


def _pass(row: Row, forward: Forward, feed: Feed) -> list[Boxes]:
    """Boxes of each image."""
    found: dict[int, Boxes] = {}
    for batch, pixels in feed(row.batches):
        found.update(zip(batch, forward(pixels), strict=True))
    return [found[place] for place in sorted(found)]


def _rotate(measured: list[Measured], feed: Feed, extent: Extent) -> None:
    """Round after round, a turn of each row."""
    for turn in range(extent.rounds):
        for one in measured:
            one.rates.append(_rate(one, feed, extent))
            log.info(
                "round %d of %d: %s, %.2f images/s",
                turn + 1,
                extent.rounds,
                one.row.name,
                one.rates[-1],
            )


def _rate(one: Measured, feed: Feed, extent: Extent) -> float:
    """Images a second in one turn; the decoding threads run ahead into the next pass."""
    batches, seconds = one.row.batches, extent.seconds
    ahead = feed(itertools.cycle(batches))
    with device.rounding(one.row.tf32), contextlib.closing(ahead):
        images = (pixels for _, pixels in ahead)
        return throughput(one.forward, images, len(batches), seconds, one.threads, extent.device)


def _result(
    one: Measured,
    eager: list[float],
    reference: list[Boxes],
    peaks: dict[str, float],
    gflop: float,
) -> Result:
    rate = statistics.median(one.rates)
    same = match(one.found, reference)
    ratios = np.divide(one.rates, eager)
    return Result(
        name=one.row.name,
        images_per_second=rate,
        rounds=one.rates,
        ratio_to_eager=float(np.median(ratios)),
        arithmetic=one.row.arithmetic,
        share_of_floor=rate * gflop / 1000 / peaks[one.row.arithmetic],
        matched=same.tight,
        matched_loosely=same.loose,
        counts_differ=same.counts_differ,
        peak_memory=one.peak_memory,
        warm_up_seconds=one.warm_up,
    )
