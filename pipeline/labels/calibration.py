"""What a review has shown of a run's scores: a file that export, select and report take."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline import words
from pipeline.errors import UsageError
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.output import Output
from pipeline.locations import checked_url
from pipeline.store import failures, urls

VERSION = 1
SOURCES = (
    "Clopper and Pearson 1934, for draws without replacement; fixed sequence of thresholds: "
    "Angelopoulos and others 2021, Bates and others 2021; design effect of images: Kish 1965, "
    "Korn and Graubard 1998"
)


@dataclass(frozen=True)
class Claim:
    """What is to be shown.

    Attributes:
        precision: least share of right boxes, above 0 and below 1.
        confidence: probability with which the promise holds, likewise.

    Raises:
        UsageError: they are not.
    """

    precision: float
    confidence: float

    def __post_init__(self) -> None:
        for name, value in (("precision", self.precision), ("confidence", self.confidence)):
            if not 0 < value < 1:
                raise UsageError(f"--{name} must be above 0 and below 1, not {value:g}")

    @property
    def needed(self) -> int:
        """Number of boxes, all of them right and of different images, that just show it."""
        return math.ceil(math.log(1 - self.confidence) / math.log(self.precision))

    @property
    def least(self) -> int:
        """Number of reviewed boxes over a threshold for it to be tried: twice as many as `needed`,
        for from fewer, one wrong box would end the search at its first step.
        """
        return 2 * self.needed

    def among(self, number: int) -> Claim:
        """The claim to be shown of each of so many groups if it shall hold for all at once
        (Bonferroni).
        """
        return Claim(self.precision, 1 - (1 - self.confidence) / number)


@dataclass(frozen=True)
class Curve:
    """A map of scores to probabilities that never falls; straight between its knots.

    Attributes:
        scores: [k] float64, rising.
        probabilities: [k] float64.
    """

    scores: np.ndarray
    probabilities: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """[m] float32 probabilities of [m] scores; beyond the knots that of the nearest one."""
        found: np.ndarray = np.interp(scores, self.scores, self.probabilities).astype(np.float32)
        return found


@dataclass(frozen=True)
class Group:
    """Categories whose boxes are taken together: a frequent one alone, all rare ones, or all.

    Attributes:
        name: for people.
        categories: names.
        labels: the run's label ids.
        boxes: number of reviewed ones.
        right: how many of them are.
        correlation: of two boxes of one image, see `guarantee.intraclass`.
        error_before: D-ECE of the scores, 0 to 1.
        error_after: D-ECE of the probabilities, by curves without the boxes' own images.
        curve: score to probability of being right.
        threshold: lowest score with the promise; None where there is none.
        accepted_share: share of the run's boxes at or over it.
    """

    name: str
    categories: list[str]
    labels: list[int]
    boxes: int
    right: int
    correlation: float
    error_before: float
    error_after: float
    curve: Curve
    threshold: float | None
    accepted_share: float


@dataclass(frozen=True)
class Calibration:
    """The content of the file.

    Attributes:
        output: URL of the run.
        run_id, weights_sha256: of it; nothing is shown of other ones.
        corrections: URL of what was reviewed.
        claim: what holds for each group's threshold, and for all at once.
        reviewed: number of images.
        images: number of the run's that did not fail, and that the reviewed ones were drawn from.
        groups: no label is in two.
        overall: all boxes of the run as one group, with a threshold of its own.
        attempt: of the run, after which the reviewed images were drawn; of images that were
            processed since, nothing is shown. None if that is not known.
    """

    output: str
    run_id: str
    weights_sha256: str
    corrections: str
    claim: Claim
    reviewed: int
    images: int
    groups: Sequence[Group]
    overall: Group
    attempt: int | None = None

    @cached_property
    def _group_of_label(self) -> np.ndarray:
        """[largest label + 1] int, a place in `groups`, -1 for none."""
        places = np.full(max((k for g in self.groups for k in g.labels), default=0) + 1, -1)
        for place, group in enumerate(self.groups):
            places[group.labels] = place
        return places

    def _places(self, labels: np.ndarray) -> np.ndarray:
        known = (labels >= 0) & (labels < len(self._group_of_label))
        return np.where(known, self._group_of_label[np.where(known, labels, 0)], -1)

    def calibrated(self, boxes: BoxBatch) -> BoxBatch:
        """Boxes with the run's own labels, with probabilities for scores, highest first."""
        places = self._places(boxes.labels)
        scores = self.overall.curve(boxes.scores)
        for place, group in enumerate(self.groups):
            mine = places == place
            scores[mine] = group.curve(boxes.scores[mine])
        order = np.lexsort((-scores, boxes.owners))
        return dataclasses.replace(
            boxes, labels=boxes.labels[order], scores=scores[order], xyxy=boxes.xyxy[order]
        )

    def accepted(self, boxes: BoxBatch) -> np.ndarray:
        """[m] bool, which boxes, with the run's own labels, reach the threshold of their group."""
        thresholds = [np.inf if g.threshold is None else g.threshold for g in self.groups]
        limits = np.array([*thresholds, np.inf], np.float32)
        accepted: np.ndarray = boxes.scores >= limits[self._places(boxes.labels)]
        return accepted


def encode(calibration: Calibration) -> bytes:
    """The content of its file."""
    content = {"version": VERSION, **dataclasses.asdict(calibration), "bound": SOURCES}
    groups = zip(content["groups"], calibration.groups, strict=True)
    for group, kept in [*groups, (content["overall"], calibration.overall)]:
        group["curve"] = np.stack([kept.curve.scores, kept.curve.probabilities], 1).tolist()
    return json.dumps(content, indent=1, ensure_ascii=False).encode()


def load(url: str, output: Output) -> Calibration:
    """Read a file of `encode`, for the run that it was made of.

    Raises:
        UsageError: it cannot be read, or is of another run or other weights.
    """
    try:
        fs, path = urls.filesystem(checked_url("calibration", url))
        found = _parsed(json.loads(fs.cat_file(path)))
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{urls.public(url)} is not a calibration that {words.command('calibrate')} has "
            f"written: {words.explain(error)}"
        ) from error
    except Exception as error:  # each file system has its own
        raise failures.unusable("read", url, error) from error
    for what, theirs, ours in (
        ("other weights", found.weights_sha256, output.detector["weights_sha256"]),
        ("another run", found.run_id, output.record["run_id"]),
    ):
        if theirs != ours:
            raise UsageError(
                f"{urls.public(url)} was made from {what} ({theirs[:12]}) than {output.url} "
                f"({ours[:12]}), so it says nothing about it; make one with "
                f"{words.command('calibrate')}"
            )
    return found


def _parsed(content: dict[str, Any]) -> Calibration:
    if content["version"] != VERSION:
        raise ValueError(f"its version is {content['version']}, not {VERSION}")
    content = {"attempt": None} | content  # which files of earlier versions do not have
    fields = {field.name: content[field.name] for field in dataclasses.fields(Calibration)}
    fields["claim"] = Claim(**content["claim"])
    fields["groups"] = [_group(group) for group in content["groups"]]
    fields["overall"] = _group(content["overall"])
    return Calibration(**fields)


def _group(content: dict[str, Any]) -> Group:
    scores, probabilities = np.array(content["curve"], np.float64).T
    return Group(**{**content, "curve": Curve(scores, probabilities)})
