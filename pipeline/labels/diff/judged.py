"""Which of two outputs the ground truth agrees with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pipeline.errors import UsageError
from pipeline.labels import strays, thresholds
from pipeline.labels.annotations import load_truth
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.classes import Classes
from pipeline.labels.diff.pairing import KINDS, NOT_IN_A, NOT_IN_B, Changes
from pipeline.labels.evaluate import Evaluation, evaluate
from pipeline.labels.match import FOUND, Matched, match
from pipeline.labels.output import Output
from pipeline.labels.report.statistics import count_pairs
from pipeline.labels.truth import Truth

VERDICTS = ("only_a", "only_b", "both", "neither")
# the number of a box that is not judged
NOT_JUDGED = -1


@dataclass
class Judge:
    """Collects what both sides found in annotated images; 28 bytes a box.

    Attributes:
        truth: the annotations, without classes that are not kept.
        foreign: number of those of categories that no side has a class for, by name.
        places: place in the truth of each image that it and both sides have, by A's URI.
        categories: [classes] int64, the truth's category id of each class, -1 for none.
        evaluations: of A and B, over those images.
    """

    truth: Truth
    foreign: Counter[str]
    places: dict[str, int]
    categories: np.ndarray
    evaluations: tuple[Evaluation, Evaluation]
    parts: tuple[list[np.ndarray], list[np.ndarray]] = field(default_factory=lambda: ([], []))
    sizes: list[int] = field(default_factory=lambda: [0, 0])
    changes: list[np.ndarray] = field(default_factory=list)

    def add(self, a: BoxBatch, b: BoxBatch, found: Changes) -> None:
        """Take in the images of a batch."""
        places = np.array([self.places.get(uri, -1) for uri in a.uris])
        sides = (
            self._collect(0, a, places, found.a[~np.isin(found.kinds, NOT_IN_A)]),
            self._collect(1, b, places, found.b[~np.isin(found.kinds, NOT_IN_B)]),
        )
        known = places[found.images] >= 0
        columns = [found.kinds[known]]
        for numbers, boxes, absent in zip(
            sides, (found.a, found.b), (NOT_IN_A, NOT_IN_B), strict=True
        ):
            there = ~np.isin(found.kinds[known], absent)
            columns += [np.where(there, numbers[boxes[known]], NOT_JUDGED), there]
        self.changes.append(np.stack(columns, 1))

    def _collect(
        self, side: int, batch: BoxBatch, places: np.ndarray, shown: np.ndarray
    ) -> np.ndarray:
        """[m + 1] int64: the number of each box among those that are judged, and of none."""
        owners = batch.owners[shown]
        shown = shown[(places[owners] >= 0) & (self.categories[batch.labels[shown]] >= 0)]
        part = np.empty(len(shown), FOUND)
        part["place"], part["category"] = (
            places[batch.owners[shown]],
            self.categories[batch.labels[shown]],
        )
        part["xyxy"], part["score"] = batch.xyxy[shown], batch.scores[shown]
        numbers = np.full(len(batch.labels) + 1, NOT_JUDGED)
        numbers[shown] = self.sizes[side] + np.arange(len(shown))
        self.parts[side].append(part)
        self.sizes[side] += len(shown)
        return numbers

    @cached_property
    def verdicts(self) -> np.ndarray:
        """[kinds, `VERDICTS`] int64, number of boxes by which side is right.

        A box is right as `thresholds.judge` says. Where one side has no box, it is right if the
        other one's is wrong. What lies on a crowd, or has a label that the truth lacks, is left
        out.
        """
        changes = np.concatenate([*self.changes, np.empty((0, 5), np.int64)])
        kinds, a, in_a, b, in_b = changes.T
        right_a, known_a = self._right(0, a)
        right_b, known_b = self._right(1, b)
        judged = (known_a | (in_a == 0)) & (known_b | (in_b == 0))
        right_a, right_b = (
            np.where(in_a == 1, right_a, ~right_b),
            np.where(in_b == 1, right_b, ~right_a),
        )
        verdicts = np.select([right_a & ~right_b, right_b & ~right_a, right_a], [0, 1, 2], 3)
        counts = np.zeros((len(KINDS), len(VERDICTS)), np.int64)
        count_pairs(counts, kinds[judged], verdicts[judged])
        return counts

    def _right(self, side: int, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[k] bool each, of numbers of boxes: right, and judged at all."""
        found = np.concatenate([*self.parts[side], np.empty(0, FOUND)])
        order = np.argsort(-found["score"], kind="stable")
        right, ignored = np.zeros(len(found) + 1, bool), np.ones(len(found) + 1, bool)
        right[order], ignored[order] = thresholds.judge(self.truth, found[order])
        return right[boxes], ~ignored[boxes]


def judge(
    annotations: str,
    outputs: Sequence[Output],
    classes: Sequence[Classes],
) -> Judge:
    """Measure both sides over the annotated images that both have and neither failed in.

    Args:
        annotations: their URL; see `labels.truth`.
        outputs: A and B.
        classes: of each, under the same names.

    Raises:
        UsageError: annotations that cannot be used, or of other images or classes.
    """
    truth = load_truth(annotations)
    matched = [
        match(output, truth, chosen) for output, chosen in zip(outputs, classes, strict=True)
    ]
    lost = {place for one in matched for place in (*one.absent, *one.failed)}
    common = [place for place in range(len(truth.ids)) if place not in lost]
    if not common:
        raise UsageError(f"no image of {truth.url} has the status ok in both outputs")
    places = {str(matched[0].uris[place]): place for place in common}
    names = classes[0].names
    for one in matched:
        _narrow(one, common)
    own = {name for output in outputs for name in output.every_category.values()}
    truth, foreign = strays.check(outputs[0], matched[0], own, names, present_only=True)
    # as by `jobs.evaluate --present-only`, had the runs these images alone
    first, second = (evaluate(truth, one, present_only=True) for one in matched)
    return Judge(truth, foreign, places, np.array(truth.ids_of(names)), (first, second))


def _narrow(matched: Matched, common: list[int]) -> None:
    """Leave out images that are not common to both sides."""
    kept = np.zeros(len(matched.uris), bool)
    kept[common] = True
    matched.uris = [
        uri if keep else None for uri, keep in zip(matched.uris, kept.tolist(), strict=True)
    ]
    matched.found = matched.found[kept[matched.found["place"]]]
