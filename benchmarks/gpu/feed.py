"""Whether the network starves: decoding alone, the engine alone, and both at once."""

from __future__ import annotations

import itertools
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np

from benchmarks.gpu.record import Record
from benchmarks.gpu.scene import Scene, Variant
from benchmarks.gpu.timing import WARM, warmed
from pipeline.bench import mix
from pipeline.bench.feed import Feed, bucketed
from pipeline.bench.throughput import throughput, workers
from pipeline.config import MICRO_BATCH
from pipeline.network.contract import Weights

IMAGES, TINY_IMAGES = 512, 2
Decoded = list[np.ndarray]


def run(record: Record) -> None:
    scene = Scene(record.asked)
    weights, threads = scene.wide(), os.cpu_count() or 1
    feed = Feed(mix.encoded(TINY_IMAGES if scene.tiny else IMAGES), threads)
    for variant in scene.few(scene.by_kernels()):
        record.attempt(variant.name, _measure, record, scene, variant, weights, feed)
    record.say("threads", note=f"{threads} that decode")


def _measure(record: Record, scene: Scene, variant: Variant, weights: Weights, feed: Feed) -> None:
    scene.clear()
    engine = variant.engine(weights, scene.where)
    shapes = [engine.padded_shape(*size) for size in feed.sizes()]
    size = 1 if scene.tiny else MICRO_BATCH["cuda"]
    # the full ones, as in a range of a run nearly all are
    batches = [batch for batch in bucketed(shapes, size) if len(batch) == size]
    decoded = [images for _, images in feed(batches)]
    threads = workers(engine)
    warmed(threads, engine, decoded, WARM if variant.graphs else 1)
    turns, seconds = (1, 0.1) if scene.tiny else (2, 1.0)

    def rate(forward: Callable[[Decoded], object], images: Iterator[Decoded]) -> float:
        return throughput(forward, images, len(batches), seconds, threads, scene.where)

    def fed(forward: Callable[[Decoded], object]) -> float:
        with closing(feed(itertools.cycle(batches))) as ahead:
            return rate(forward, (some for _, some in ahead))

    rates: dict[str, list[float]] = {"decode": [], "engine": [], "both": []}
    for _ in range(turns):
        rates["decode"].append(fed(lambda images: images))
        rates["engine"].append(rate(engine, itertools.cycle(decoded)))
        rates["both"].append(fed(engine))
    shares = [
        both / min(decode, alone)
        for decode, alone, both in zip(rates["decode"], rates["engine"], rates["both"], strict=True)
    ]
    record.say(
        variant.name,
        **{name: statistics.median(some) for name, some in rates.items()},
        share=statistics.median(shares),
    )
