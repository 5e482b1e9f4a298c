"""How far each precision moves the detections of a trained network, and what that does to AP.

A precision is worth its speed if it moves them no further than torchvision's own default does.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compared import Moves, average_precision, moved
from benchmarks.gpu import folder
from benchmarks.gpu.record import Record
from benchmarks.gpu.same import Forward, each, shipped
from benchmarks.gpu.scene import Scene, Variant
from pipeline.bench.feed import Batch, bucketed
from pipeline.bench.rows import Reference
from pipeline.network.contract import Boxes
from pipeline.network.cost import Cost
from pipeline.network.precision import MIN_SIZE

REFERENCE, SHIPPED = "torchvision, fp32", "torchvision as shipped"
TOGETHER = "in {}s"
DECIDING = ("score_mean", "score_p99", "corner_mean", "corner_p99")
# a sample of so many boxes says no more than this
SLACK = 1.05
# torchvision's, and how many pictures are looked at beside the size that was trained for
MAX_SIZE = 1333
TWICE, DEFAULT = 40, 24


def run(record: Record) -> None:
    scene = Scene(record.asked)
    truth = _truth(scene)
    if truth is None:
        record.say("AP", note="pycocotools is not installed here")
    for title, options, number in _sizes(scene):
        side = str(options.get("min_size", MIN_SIZE))
        number = min(number, len(scene.pictures))
        record.say(side, note=f"{title}, {number} pictures")
        found = _size(record, scene, side, options, number, truth)
        for name, moves in found.items():
            if scene.gpu and name not in (REFERENCE, SHIPPED):
                decide(record, f"{side}: {name}", moves, found[SHIPPED])
    if not scene.gpu:
        record.say("decision", note="needs a GPU: elsewhere torchvision's default is float32")


def _sizes(scene: Scene) -> list[tuple[str, dict[str, Any], int]]:
    """What the network is built with, and of how many pictures; with a title."""
    trained, default = scene.trained_options(), scene.options
    low, high = trained.get("min_size", MIN_SIZE), trained.get("max_size", MAX_SIZE)
    twice = {**trained, "min_size": 2 * low, "max_size": 2 * high}
    found = [
        ("as trained", trained, len(scene.pictures)),
        ("twice the side that was trained for", twice, TWICE),
    ]
    if low != default.get("min_size", MIN_SIZE):
        found.append(("torchvision's default", default, DEFAULT))
    return found


def _size(
    record: Record, scene: Scene, side: str, options: dict[str, Any], number: int, truth: Any
) -> dict[str, Moves]:
    """The moves at one size of the network, by name."""
    weights, images = scene.weights(**options), scene.pictures[:number]
    cost = Cost(weights.options)
    shapes = [cost.padded_shape(*image.shape[:2]) for image in images]
    batches = bucketed(shapes, scene.micro_batch)
    together = TOGETHER.format(scene.micro_batch)
    theirs = Reference(weights, scene.where)
    reference, model = each(theirs, images), shipped(theirs)
    moves: dict[str, Moves] = {}

    def say(name: str, boxes: list[Boxes]) -> None:
        moves[name] = moved(boxes, reference)
        record.say(f"{side}: {name}", **moves[name].data(), **_ap(scene, boxes, truth))

    def both(variant: Variant) -> None:
        engine = variant.engine(weights, scene.where)
        say(variant.name, each(engine, images))
        say(f"{variant.name} {together}", in_batches(engine, images, batches))

    if truth is not None:
        say(REFERENCE, reference)
    say(SHIPPED, each(model, images))
    say(f"torchvision {together}", in_batches(model, images, batches))
    # with graphs is replayed what is launched without them; see `same`
    for variant in scene.few([variant for variant in scene.variants() if not variant.graphs]):
        scene.clear()
        record.attempt(f"{side}: {variant.name}", both, variant)
    return moves


def in_batches(
    forward: Forward, images: Sequence[np.ndarray], batches: Sequence[Batch]
) -> list[Boxes]:
    """Of each image, in batches of these places."""
    found: dict[int, Boxes] = {}
    for batch in batches:
        found.update(zip(batch, forward([images[place] for place in batch]), strict=True))
    return [found[place] for place in range(len(images))]


def decide(record: Record, name: str, moves: Moves, floor: Moves) -> None:
    """How many times as far as torchvision's default something moves."""
    ratios = [_ratio(getattr(moves, figure), getattr(floor, figure)) for figure in DECIDING]
    within = max(ratios) <= SLACK
    score, score_p99, corner, corner_p99 = (f"{ratio:.2f}" for ratio in ratios)
    note = (
        f"{'within' if within else 'further'}; "
        f"x score {score}, p99 {score_p99}; x corner {corner}, p99 {corner_p99}"
    )
    record.say(f"decision, {name}", note=note, within=within, ratios=ratios)


def _ratio(value: float, floor: float) -> float:
    return value / floor if floor else float("inf") if value else 1.0


def _truth(scene: Scene) -> Any:
    """The annotations, if there is what reads them."""
    try:
        from pycocotools.coco import COCO
    except ImportError:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(Path(scene.asked.bring or "", folder.ANNOTATIONS)))


def _ap(scene: Scene, boxes: list[Boxes], truth: Any) -> dict[str, float]:
    if truth is None:
        return {}
    ids = [entry["id"] for entry in scene.annotations[: len(boxes)]]
    return average_precision(boxes, ids, truth)
