"""Two finished outputs over the same images, streamed and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import words
from pipeline.errors import RunError, UsageError
from pipeline.labels import boxes, classes
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.classes import Classes
from pipeline.labels.diff import pairing
from pipeline.labels.diff.joint import Joint, join
from pipeline.labels.diff.judged import Judge, judge
from pipeline.labels.diff.tally import Tally
from pipeline.labels.output import Output, open_output
from pipeline.labels.report import gallery

THRESHOLD = 0.5
PICTURES = 24


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to compare.

    Args:
        score_threshold: boxes of at least this score count.
        iou: that two boxes of one object have at least.
        classes: YAML file that selects and renames classes of both sides.
        agnostic_nms: IoU above which a box is a double of a better one of any class, and left out.
        pictures: number of the most changed images to keep with their boxes.
        listed: whether the list of changed images is wanted.
        annotations: as `labels.truth` reads them, which say which side is right.

    Raises:
        UsageError: a value that makes no sense.
    """

    score_threshold: float = THRESHOLD
    iou: float = pairing.IOU
    classes: str | None = None
    agnostic_nms: float | None = None
    pictures: int = 0
    listed: bool = False
    annotations: str | None = None

    def __post_init__(self) -> None:
        gallery.checked(self.pictures)
        if not 0 < self.iou <= 1:
            raise UsageError(f"--iou must be above 0 and at most 1, not {self.iou:g}")
        if not 0 <= self.score_threshold <= 1:
            raise UsageError(
                f"--score-threshold must be within 0 and 1, not {self.score_threshold:g}"
            )


@dataclass(frozen=True)
class Comparison:
    """The outcome.

    Attributes:
        joint: the outputs, and how their images pair.
        options: how they were compared.
        tally: the counts.
        judge: which side is right, where there are annotations.
    """

    joint: Joint
    options: Options
    tally: Tally
    judge: Judge | None = None


def compare(a: str, b: str, options: Options) -> Comparison:
    """
    Args:
        a, b: URLs of two outputs.
        options: how to compare.

    Raises:
        UsageError: outputs, options or annotations that cannot be used, or no image in both.
        RunError: an output is damaged.
    """
    outputs = open_output(a), open_output(b)
    for name, output in zip("AB", outputs, strict=True):
        kept = float(output.detector["score_threshold"])
        if options.score_threshold < kept:
            raise UsageError(
                f"--score-threshold {options.score_threshold:g} is below {kept:g}, from which the "
                f"run of {name} kept boxes; give {kept:g} or more"
            )
    chosen = _classes(outputs, options)
    names = chosen[0].names
    judged = None
    if options.annotations:
        judged = judge(options.annotations, outputs, chosen)
    joint = join(*outputs)
    tally = Tally(names, options.pictures, options.listed)
    for tables in joint.tables():
        sides = _boxes(joint, tables, chosen, tally)
        found = pairing.compare(*sides, options.score_threshold, options.iou)
        tally.add(*sides, found)
        if judged:
            judged.add(*sides, found)
    return Comparison(joint, options, tally, judged)


def _classes(outputs: Sequence[Output], options: Options) -> list[Classes]:
    """Those of each output, under the same names in the same order."""
    every = [output.every_category for output in outputs]
    names = list(dict.fromkeys(name for one in every for name in one.values()))
    numbers = {name: number for number, name in enumerate(names)}
    mapping, agnostic_nms = options.classes, options.agnostic_nms
    chosen = classes.choose(dict(enumerate(names)), mapping=mapping, agnostic_nms=agnostic_nms)
    sides = []
    for one in every:
        labels = np.array([*one])
        places = np.full(max(one) + 1, -1)
        places[labels] = chosen.places[[numbers[name] for name in one.values()]]
        every_score = np.zeros(len(places), np.float32)
        sides.append(replace(chosen, places=places, thresholds=every_score))
    return sides


def _boxes(
    joint: Joint,
    tables: tuple[pa.Table, pa.Table],
    chosen: Sequence[Classes],
    tally: Tally,
) -> tuple[BoxBatch, BoxBatch]:
    """The boxes of those images that can be compared; the others are counted."""
    ok = [pc.equal(table["status"], "ok").to_numpy() for table in tables]
    tally.add_failed(tables[0]["image_uri"], *ok)
    kept = [table.filter(pa.array(ok[0] & ok[1])) for table in tables]
    alike = pc.and_(*(pc.equal(kept[0][side], kept[1][side]) for side in ("width", "height")))
    tally.add_resized(kept[0].filter(pc.invert(alike))["image_uri"].to_pylist())
    kept = [table.filter(alike) for table in kept]
    if joint.by == "URI":  # of one name elsewhere it may be a copy, such as a smaller JPEG
        sizes = (table["image_bytes"] for table in kept)
        other = pc.fill_null(pc.not_equal(*sizes), False)
        tally.add_replaced(kept[0].filter(other)["image_uri"].to_pylist())
        kept = [table.filter(pc.invert(other)) for table in kept]
    sides = []
    for output, table, own in zip((joint.a, joint.b), kept, chosen, strict=True):
        found = boxes.from_table(table)
        if not (np.isfinite(found.xyxy).all() and np.isfinite(found.scores).all()):
            url = output.url
            raise RunError(
                f"{url} has boxes that are not numbers; see {words.command('verify')} {url}"
            )
        sides.append(own.choose(found))
    return sides[0], sides[1]
