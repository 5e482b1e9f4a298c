"""The edges: numbers that overflow, crowds, unusual sizes, and memory that runs short."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.compared import moved
from benchmarks.gpu.rates import SHAPE
from benchmarks.gpu.record import Record
from benchmarks.gpu.same import CALLS, all_tight, each, is_exact, must_equal
from benchmarks.gpu.scene import Scene, Variant
from pipeline.bench import device
from pipeline.bench.rows import Reference
from pipeline.network.contract import Boxes, ShortOfMemory, Weights
from pipeline.network.engine import Engine

NEEDS = "needs a GPU"
# What the first layer gives is so many times as much, and the layers that read it take it back: in
# float32 the same network to the last bit, and beyond what float16 can hold.
LOUDER = np.float32(2**17)
BODY = "backbone.body."
LOUD = (f"{BODY}bn1.weight", f"{BODY}bn1.bias")
QUIET = (f"{BODY}layer1.0.conv1.weight", f"{BODY}layer1.0.downsample.0.weight")
# of scores, such that far more boxes have it than a GPU has room for
LOW = {"box_score_thresh": 0.0005}
TINY_LOW = {"box_score_thresh": 0.0, "rpn_post_nms_top_n_test": 30}
# (height, width); the last one has 48 megapixels
SIZES = [(20, 3000), (3000, 20), (6000, 8000)]
TINY_SIZES = [(20, 300), (3, 2)]
# pictures of a single pixel, and how far scores of the boxes that stay may be from torchvision's
FLAT, TINY_FLAT, FLAT_SCORE = 6, 1, 1e-3
# images that do not fit the bytes that are left for them, of which one does
MANY, ROOM = 64, 2_000_000_000


def run(record: Record) -> None:
    scene = Scene(record.asked)
    for what, check in (
        ("overflow", _overflow),
        ("memory", _memory),
        ("crowd", _crowd),
        ("sizes", _sizes),
        ("flat", _flat),
    ):
        record.attempt(what, check, record, scene)


# ------------------------------------------------------------------------------- overflow


def _overflow(record: Record, scene: Scene) -> None:
    weights = scene.weights(**scene.options)
    state = dict(weights.state)
    state |= {name: state[name] * LOUDER for name in LOUD}
    state |= {name: state[name] / LOUDER for name in QUIET}
    loud = dataclasses.replace(weights, state=state)
    for variant in scene.variants():
        scene.clear()
        name = f"overflow: {variant.name}"
        if variant.precision == "fp32":
            record.attempt(name, _holds, record, scene, variant, weights, loud, name)
        else:
            record.attempt(name, _overflows, record, scene, variant, loud, name)


def _holds(
    record: Record, scene: Scene, variant: Variant, weights: Weights, loud: Weights, name: str
) -> None:
    batch = scene.shaped([SHAPE])
    expected, engine = (
        variant.engine(weights, scene.where)(batch),
        variant.engine(loud, scene.where),
    )
    for _ in range(CALLS if variant.graphs else 1):
        found = engine(batch)
    must_equal(record, name, found, expected)


def _overflows(record: Record, scene: Scene, variant: Variant, loud: Weights, name: str) -> None:
    engine, batch = variant.engine(loud, scene.where), scene.shaped([SHAPE])
    for call in range(CALLS if variant.graphs else 1):
        try:
            boxes = engine(batch)
        except FloatingPointError as error:
            note = f"refused: {error}"
            continue
        record.fail(name, f"call {call + 1}: {len(boxes[0].labels)} boxes of no numbers")
        return
    record.say(name, note=note)


# ---------------------------------------------------------------------------------- crowd


def _crowd(record: Record, scene: Scene) -> None:
    weights = scene.wide()
    low = TINY_LOW if scene.tiny else LOW
    crowded = dataclasses.replace(weights, options={**weights.options, **low})
    # the slowest way and the fastest ones
    variants = {v.name: v for v in [scene.variants()[0], *scene.fastest()]}
    for variant in scene.few(list(variants.values())):
        for what, some in (("usual", weights), ("crowd", crowded)):
            scene.clear()
            name = f"{what}: {variant.name}"
            record.attempt(name, _crowds, record, scene, variant, some, name)


def _crowds(record: Record, scene: Scene, variant: Variant, weights: Weights, name: str) -> None:
    """All at once, and asking the device in between: the same boxes."""
    engine, batch = variant.engine(weights, scene.where), scene.shaped([SHAPE] * 2)
    engine.at_once = True
    passes = _passes(engine)
    for _ in range(CALLS if variant.graphs else 1):
        found = engine(batch)
    again = passes.count(False)
    engine.at_once, engine.graphs = False, None
    must_equal(record, name, found, engine(batch))
    if name.startswith("crowd") and not again:
        record.fail(name, "no image had more boxes than there is room for")


def _passes(engine: Engine) -> list[bool | None]:
    """What its second passes are told from: `at_once` of each, from now on."""
    passes: list[bool | None] = []
    found: Callable[..., Any] = engine._found

    def noted(*given: Any, at_once: bool | None = None) -> Any:
        passes.append(at_once)
        return found(*given, at_once=at_once)

    setattr(engine, "_found", noted)  # noqa: B010
    return passes


# ---------------------------------------------------------------------------------- sizes


def _sizes(record: Record, scene: Scene) -> None:
    weights = scene.weights(**scene.options)
    images = scene.shaped(TINY_SIZES if scene.tiny else SIZES)
    reference = each(Reference(weights, scene.where), images)
    exact = [dataclasses.replace(scene.fastest()[0], tf32=False)] if scene.gpu else []
    for variant in [*exact, *scene.fastest()]:
        scene.clear()
        with device.rounding(variant.tf32):
            engine = variant.engine(weights, scene.where)
            for image, boxes in zip(images, reference, strict=True):
                height, width, _ = image.shape
                name = f"{height}x{width}: {variant.name}"
                record.attempt(name, _one, record, scene, variant, engine, image, boxes, name)


def _one(
    record: Record,
    scene: Scene,
    variant: Variant,
    engine: Engine,
    image: np.ndarray,
    boxes: Boxes,
    name: str,
) -> None:
    before = torch.cuda.memory_allocated() if scene.gpu else 0
    if scene.gpu:
        torch.cuda.reset_peak_memory_stats()
    moves = moved(engine([image]), [boxes])
    peak = (torch.cuda.max_memory_allocated() - before) / 1e9 if scene.gpu else None
    record.say(name, **moves.data(), peak=peak)
    if is_exact(scene, variant):
        all_tight(record, name, moves)


# ----------------------------------------------------------------------------------- flat


def _flat(record: Record, scene: Scene) -> None:
    """Pictures of one colour: their boxes have equals all over, and the last bits of the scores
    decide which of them stay, as they do in torchvision when its layout in memory is another.
    """
    weights = scene.weights(**scene.options)
    images = scene.shaped([(1, 1)] * (TINY_FLAT if scene.tiny else FLAT))
    theirs = Reference(weights, scene.where)
    reference = each(theirs, images)
    theirs.model.to(memory_format=torch.channels_last)
    record.say("flat: torchvision, channels last", **moved(each(theirs, images), reference).data())
    exact = [dataclasses.replace(v, tf32=False) for v in scene.fastest() if v.precision == "fp32"]
    for variant in [*exact, *scene.fastest()] if scene.gpu else exact:
        scene.clear()
        name = f"flat: {variant.name}"
        with device.rounding(variant.tf32):
            moves = moved(each(variant.engine(weights, scene.where), images), reference)
        record.say(name, **moves.data())
        if moves.score_max > FLAT_SCORE:
            record.fail(name, f"a score is {moves.score_max:.1e} from that of the same box")


# --------------------------------------------------------------------------------- memory


def _memory(record: Record, scene: Scene) -> None:
    if not scene.gpu:
        record.say("memory", note=NEEDS)
        return
    weights = scene.wide()
    for variant in scene.fastest():
        for what, check in (("too many", _too_many), ("recording", _recording)):
            scene.clear()
            name = f"{what}: {variant.name}"
            record.attempt(name, check, record, scene, variant, weights, name)


def _too_many(record: Record, scene: Scene, variant: Variant, weights: Weights, name: str) -> None:
    """More images than fit are refused, and one is computed then as before."""
    engine, one = variant.engine(weights, scene.where), scene.shaped([SHAPE])
    for _ in range(CALLS):
        before = engine(one)
    scene.clear()
    with _room(ROOM):
        _short(record, name, engine, scene.shaped([SHAPE] * MANY))
        found = engine(one)
    must_equal(record, name, found, before, held=torch.cuda.memory_reserved() / 1e9)


def _recording(record: Record, scene: Scene, variant: Variant, weights: Weights, name: str) -> None:
    """There is memory for a forward, and none for its recording."""
    engine, batch = variant.engine(weights, scene.where), scene.shaped([SHAPE] * scene.micro_batch)
    before = engine(batch)
    if engine.graphs:
        engine.graphs.function = _hungry(engine.graphs.function)
    for _ in range(CALLS - 2):
        with contextlib.suppress(ShortOfMemory):
            engine(batch)
    if engine.graphs:
        record.fail(name, "it was recorded where there was no room for it")
    must_equal(record, name, engine(batch), before, held=torch.cuda.memory_reserved() / 1e9)


def _hungry(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but while it is recorded it asks for more than there is."""

    def hungry(*given: Any) -> Any:
        if torch.cuda.is_current_stream_capturing():
            total = torch.cuda.get_device_properties(0).total_memory
            torch.empty(2 * total, dtype=torch.uint8, device="cuda")
        return function(*given)

    return hungry


def _short(
    record: Record,
    name: str,
    engine: Callable[[Sequence[np.ndarray]], list[Boxes]],
    images: Sequence[np.ndarray],
) -> None:
    try:
        engine(images)
    except ShortOfMemory:
        if getattr(engine, "graphs", None):
            record.fail(name, "graphs were kept")
        return
    record.fail(name, f"{len(images)} images fit where they must not")


@contextlib.contextmanager
def _room(size: int) -> Iterator[None]:
    """So many bytes beside what torch holds, and no more, as long as it lasts."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + size) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
