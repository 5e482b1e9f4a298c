"""Whether each variant finds what torchvision does in float32 on the same device."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.compared import Moves, moved
from benchmarks.gpu.record import Record
from benchmarks.gpu.scene import Scene, Variant, equal
from pipeline.bench import device
from pipeline.bench.rows import Eager, Reference
from pipeline.network.contract import Boxes
from pipeline.network.engine import Engine

# (height, width): usual ones, their neighbours, odd, large and tiny ones, and strips
SHAPES = [
    *[(480, 640), (427, 640), (640, 480), (640, 427), (375, 500), (360, 640), (612, 612)],
    *[(512, 640), (320, 640), (240, 320), (1080, 1920), (2000, 3000), (64, 64), (200, 900)],
    *[(900, 200), (40, 800), (800, 33), (20, 3000), (333, 501), (501, 333), (799, 1333)],
    *[(801, 1335), (1333, 801), (123, 457), (768, 1024), (3000, 4000), (4000, 3000), (4000, 4000)],
    *[(4000, 250), (250, 4000), (33, 65), (7, 5), (2, 3), (1, 40)],
]
TINY_SHAPES = [(480, 640), (40, 200)]
PICTURES = 4
# of one padded shape, and not of one size
NEIGHBOURS = [(427, 640), (426, 640), (425, 640), (428, 640)]
# calls of a shape until it has been recorded and replayed, and how many of the images get them
CALLS, RECORDED = 4, 8
THREADS, MICRO_BATCHES = 2, 4
# how many more of the boxes may be lost than torchvision's own default loses
LOST = 0.05

Forward = Callable[[Sequence[np.ndarray]], list[Boxes]]


def run(record: Record) -> None:
    scene = Scene(record.asked)
    weights = scene.weights(**scene.options)
    images = scene.shaped(TINY_SHAPES if scene.tiny else SHAPES)
    images += [] if scene.tiny else scene.pictures[:PICTURES]
    theirs = Reference(weights, scene.where)
    reference = each(theirs, images)
    floor = moved(each(shipped(theirs), images), reference)
    record.say("torchvision as shipped", **floor.data())
    for variant in variants(scene):
        scene.clear()
        record.attempt(variant.name, _check, record, scene, variant, images, reference, floor)


def variants(scene: Scene) -> list[Variant]:
    """All of them, and float32 without TF32, which is the one that must be equal; that first."""
    found = scene.variants()
    exact = [dataclasses.replace(v, tf32=False) for v in found if v.precision == "fp32"]
    return [*exact, *found] if scene.gpu else found


def each(forward: Forward, images: Sequence[np.ndarray]) -> list[Boxes]:
    """Every image by itself."""
    return [forward([image])[0] for image in images]


def shipped(model: Reference) -> Forward:
    """The same by torchvision's own default, TF32 and all: the floor of all noise."""
    pool = model.model.roi_heads.box_roi_pool

    def call(images: Sequence[np.ndarray]) -> list[Boxes]:
        pool.scales = pool.map_levels = None
        return Eager.__call__(model, images)

    return call


def is_exact(scene: Scene, variant: Variant) -> bool:
    """Whether it must find what torchvision does, and not almost that."""
    return variant.precision == "fp32" and not (scene.gpu and variant.tf32)


def _check(
    record: Record,
    scene: Scene,
    variant: Variant,
    images: list[np.ndarray],
    reference: list[Boxes],
    floor: Moves,
) -> None:
    name = variant.name
    with device.rounding(variant.tf32):
        engine = variant.engine(scene.weights(**scene.options), scene.where)
        found = each(engine, images)
        moves = moved(found, reference)
        record.say(name, **moves.data())
        if is_exact(scene, variant):
            all_tight(record, name, moves)
        elif moves.loose < floor.loose - LOST:
            record.fail(name, f"{1 - moves.loose:.1%} of the boxes are lost")
        if variant.graphs:
            _replayed(record, name, engine, images[:RECORDED], found[:RECORDED])
        batch = scene.shaped((NEIGHBOURS * scene.micro_batch)[: scene.micro_batch])
        for _ in range(CALLS if variant.graphs else 1):
            together = engine(batch)
        moves = moved(together, each(engine, batch))
        record.say(f"{name}: {len(batch)} together", **moves.data())
        if variant.tf32:
            alone, shared = _threads(scene, engine)
            must_equal(record, f"{name}: {THREADS} threads", shared, alone)


def _replayed(
    record: Record, name: str, engine: Engine, images: list[np.ndarray], first: list[Boxes]
) -> None:
    for _ in range(CALLS - 1):
        last = each(engine, images)
    must_equal(record, f"{name}: replayed", last, first)
    if not (engine.graphs and engine.graphs.recorded):
        record.fail(f"{name}: replayed", "nothing was recorded")


def _threads(scene: Scene, engine: Forward) -> tuple[list[Boxes], list[Boxes]]:
    """Micro-batches of two shapes, by one thread and by several at once."""
    # of the size of those before, as less than that is not recorded
    number, size = (2, 1) if scene.tiny else (MICRO_BATCHES, scene.micro_batch)
    batches = [scene.shaped([SHAPES[i % 2]] * (i + size))[i:] for i in range(number)]
    alone = [boxes for batch in batches for boxes in engine(batch)]
    found: list[list[Boxes]] = [[] for _ in range(THREADS * number)]

    def work(thread: int) -> None:
        for place in range(number):
            at = (place + thread) % number
            found[thread * number + at] = engine(batches[at])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return alone * THREADS, [boxes for batch in found for boxes in batch]


def must_equal(
    record: Record, name: str, found: list[Boxes], reference: list[Boxes], **more: object
) -> None:
    """A row of what must not change the least."""
    if len(found) != len(reference):
        record.fail(name, "a thread ended early; see log.txt")
        return
    moves = moved(found, reference)
    bits = "same" if equal(found, reference) else "differ"
    record.say(name, bits=bits, **moves.data(), **more)
    all_tight(record, name, moves)


def all_tight(record: Record, name: str, moves: Moves) -> None:
    if moves.tight < 1 or moves.counts_differ:
        record.fail(name, f"{1 - moves.tight:.3%} of the boxes are others, and none may be")
