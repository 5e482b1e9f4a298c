"""Images a second of the engine's variants beside what a user of torchvision would write."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from benchmarks.gpu.record import Record
from benchmarks.gpu.scene import Scene, Variant
from benchmarks.gpu.timing import WARM, Batch, Row, rotate
from pipeline.bench import device, mix
from pipeline.bench.feed import Feed, bucketed, in_order
from pipeline.bench.rows import Autocast, Eager
from pipeline.config import MICRO_BATCH
from pipeline.network.contract import Weights
from pipeline.network.cost import Cost

# (height, width) of COCO's commonest photographs
SHAPE = (480, 640)
# images of the mix, for the engine, and so many of them for torchvision's rows, which are slower
MIXED, FEWER_MIXED, TINY_MIXED = 512, 128, 2
BATCH, TINY_BATCH, LARGER = 8, 2, MICRO_BATCH["cuda"]
# of a turn at least; a pass over the mix takes some
SECONDS, MIX_TURNS = 0.7, 2


def run(record: Record) -> None:
    scene = Scene(record.asked)
    weights, peaks = scene.wide(), device.peaks(scene.where)
    record.say("device", note=device.name(scene.where), shown=False, **peaks)
    cost = Cost(weights.options)
    images = scene.shaped([SHAPE] * _batch(scene))
    rows = theirs(scene, weights, {"batches of one shape": [images]}, images)
    rows += [ours(scene, v, weights, [images]) for v in scene.few(scene.variants())]
    if scene.gpu:
        exact = dataclasses.replace(scene.fastest()[0], tf32=False)
        rows.append(ours(scene, exact, weights, [images]))
        larger = ours(scene, scene.fastest()[-1], weights, [scene.shaped([SHAPE] * LARGER)])
        rows.append(dataclasses.replace(larger, name=f"{larger.name}, micro-batch {LARGER}"))
    gflop = cost.gflop(cost.padded_shape(*SHAPE))
    report(record, rotate(record, scene, rows, SECONDS), gflop, peaks, "")
    rows.clear()  # and what they hold of the memory
    _on_the_mix(record, scene, weights, cost, peaks)


def _batch(scene: Scene) -> int:
    return TINY_BATCH if scene.tiny else BATCH


def theirs(
    scene: Scene, weights: Weights, batches: dict[str, list[Batch]], images: Sequence[np.ndarray]
) -> list[Row]:
    """torchvision's rows: each image by itself, these batches, and the last ones by autocast."""
    single = [[image] for image in images]
    *_, last = batches.values()

    @cache  # as all rows but the last may share one
    def eager() -> Eager:
        return Eager(weights, scene.where)

    arithmetic = scene.arithmetic("fp32")
    rows = [Row("loop", arithmetic, eager, single, theirs=True)]
    rows += [Row(name, arithmetic, eager, some, theirs=True) for name, some in batches.items()]
    if scene.gpu:
        exact = Row("loop, TF32 off", "fp32", eager, single, tf32=False, theirs=True)
        rows.insert(1, exact)
        rows.append(
            Row(
                "autocast, channels last",
                "fp16",
                lambda: Autocast(weights, scene.where),
                last,
                theirs=True,
            )
        )
    return rows


def ours(scene: Scene, variant: Variant, weights: Weights, batches: list[Batch]) -> Row:
    """The engine's row."""
    return Row(
        variant.name,
        scene.arithmetic(variant.precision, variant.tf32),
        lambda: variant.engine(weights, scene.where),
        batches,
        tf32=variant.tf32,
        warm=WARM if variant.graphs else 1,
    )


def report(
    record: Record, rows: Sequence[Row], gflop: float, peaks: dict[str, float], where: str
) -> None:
    """
    Args:
        record: gets a row for each.
        rows: that have been measured.
        gflop: of an image.
        peaks: TFLOP/s by arithmetic.
        where: goes before the names.
    """
    loop = next((row.rate for row in rows if row.name == "loop"), None)
    best = max((row.rate for row in rows if row.theirs), default=None)
    for row in rows:
        record.say(
            where + row.name,
            rate=row.rate,
            rates=row.rates,
            spread=(max(row.rates) - min(row.rates)) / row.rate,
            to_loop=loop and row.rate / loop,
            to_best=best and row.rate / best,
            floor=row.rate * gflop / 1000 / peaks[row.arithmetic],
            arithmetic=row.arithmetic,
            peak=row.peak,
            held=row.held,
            graphs=row.graphs,
            boxes=row.boxes,
        )


def _on_the_mix(
    record: Record, scene: Scene, weights: Weights, cost: Cost, peaks: dict[str, float]
) -> None:
    """Photographs of all of COCO's sizes, in batches of one padded shape."""
    feed = Feed(mix.encoded(TINY_MIXED if scene.tiny else MIXED), os.cpu_count() or 1)
    shapes = [cost.padded_shape(*size) for size in feed.sizes()]
    images = [image for _, some in feed(in_order(len(shapes), 8)) for image in some]

    def chosen(places: list[list[int]]) -> list[Batch]:
        return [[images[place] for place in batch] for batch in places]

    some = shapes[:FEWER_MIXED]
    arrival = chosen(in_order(len(some), _batch(scene)))
    batches = {
        "batches as they come": arrival,
        "batches of one shape": chosen(bucketed(some, _batch(scene))),
    }
    rows = [row for row in theirs(scene, weights, batches, images[: len(some)]) if row.tf32]
    size = TINY_BATCH if scene.tiny else LARGER
    places = bucketed(shapes, size)
    for variant in scene.few(scene.by_kernels()):
        row = ours(scene, variant, weights, chosen(places))
        rows.append(dataclasses.replace(row, name=f"{row.name}, in {size}s"))
    kinds = len({(shapes[batch[0]], len(batch)) for batch in places})
    record.say(f"mix: micro-batch {size}", note=f"{kinds} shapes of micro-batches")
    gflop = statistics.mean(cost.gflop(shape) for shape in shapes)
    report(record, rotate(record, scene, rows, SECONDS, MIX_TURNS), gflop, peaks, "mix: ")
    if scene.gpu:
        reserved = torch.cuda.memory_reserved() / 1e9
        record.say("mix", note=f"{reserved:.1f} GB are reserved for all these rows")
