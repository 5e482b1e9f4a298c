"""A calibration of a run, from the corrections of some images drawn at random from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from pipeline import words
from pipeline.errors import UsageError
from pipeline.labels import boxes, guarantee
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.calibration import Calibration, Claim, Group
from pipeline.labels.classes import Classes
from pipeline.labels.guarantee import LEAST_IMAGES, Reviewed
from pipeline.labels.isotonic import calibration_error, cross_fitted, fit
from pipeline.labels.match import Matched
from pipeline.labels.output import Output
from pipeline.labels.redone import among, drawn_of, redone
from pipeline.labels.thresholds import judge
from pipeline.store import urls

# with fewer reviewed boxes a category is taken together with the others that have
OWN_BOXES = 200
# with fewer, the rare ones together take the curve of all boxes
OWN_CURVE = 50
# standard errors by which a random draw does not differ from the run
MOST_APART = 4.0


@dataclass
class _Run:
    """Sums over all images of a run that did not fail, and that could be drawn.

    Attributes:
        labels: largest label id.
        uris: of the reviewed images.
        counts: [labels + 1, len(EDGES)] int64, boxes by label and score.
        images, reviewed: numbers.
        sums: [2, 3] of an image's number of boxes, and of its scores' sum: over all images, over
            all images squared, over the reviewed ones.
    """

    labels: int
    uris: set[str]
    images: int = 0
    reviewed: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros((2, 3)))

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.labels + 1, len(guarantee.EDGES)), np.int64)

    def add(self, found: BoxBatch) -> None:
        for label in np.unique(found.labels).tolist():
            self.counts[label] += guarantee.histogram(found.scores[found.labels == label])
        reviewed = np.array([uri in self.uris for uri in found.uris], bool)
        self.images += len(reviewed)
        self.reviewed += int(np.count_nonzero(reviewed))
        scores = np.bincount(found.owners, found.scores, len(reviewed))
        for row, values in enumerate((np.diff(found.starts).astype(np.float64), scores)):
            self.sums[row] += values.sum(), np.sum(values**2), values[reviewed].sum()

    def check(self, output: Output, corrections: str) -> None:
        """
        Raises:
            UsageError: the reviewed images are too few, all, or plainly no random draw.
        """
        if self.reviewed < LEAST_IMAGES:
            raise UsageError(
                f"{words.count(self.reviewed, 'image')} of {output.url} in {corrections}: too few "
                f"to show how far its scores are right; review {LEAST_IMAGES} or more, drawn at "
                "random"
            )
        if self.reviewed == self.images:
            raise UsageError(
                f"every image of {output.url} is in {corrections}: none is left that a "
                "calibration could be used for"
            )
        every, squares, mine = self.sums.T
        means = every / self.images
        errors = np.sqrt(
            np.maximum(squares / self.images - means**2, 1e-12)
            * (1 / self.reviewed - 1 / self.images)
        )
        apart = np.abs(mine / self.reviewed - means) / errors
        if apart.max() <= MOST_APART:
            return
        what = f"{mine[0] / self.reviewed:.1f} boxes per image where the run has {means[0]:.1f}"
        if apart[0] < apart[1]:
            mean = mine[1] / max(mine[0], 1)
            what = f"a mean score of {mean:.2f} where the run has {every[1] / every[0]:.2f}"
        raise UsageError(
            f"the images in {corrections} are not a random draw of {output.url}: they have "
            f"{what}, {apart.max():.0f} standard errors apart, so what holds for them need not "
            "hold for the others; review images drawn at random"
        )


def calibrate(output: Output, classes: Classes, matched: Matched, claim: Claim) -> Calibration:
    """
    Args:
        output: the run's.
        classes: as which its labels were matched.
        matched: the reviewed images with their detections, as from `match`.
        claim: what is to be shown.

    Raises:
        UsageError: the reviewed images are too few or no random draw, or cannot show the claim
            whatever they hold.
    """
    truth = matched.truth
    corrections = urls.public(truth.url)
    attempt = drawn_of(output, truth)
    run = _counted(output, matched, attempt)
    run.check(output, corrections)
    right, ignored = judge(truth, matched.found)
    kept = ~ignored
    found, right = matched.found[kept], right[kept]
    category_of = found["category"].copy()
    every = Reviewed(found["score"].copy(), right, found["place"].astype(np.int64))
    del found  # the corners of maybe millions of boxes
    _check_claim(claim, len(right), run.reviewed)
    groups = _groups(output, classes, matched, category_of)
    maker = _Maker(every, run, run.reviewed / run.images)
    joint = claim.among(len(groups))
    made = [
        maker.group(name, names, labels, np.isin(category_of, categories), joint)
        for name, names, labels, categories in groups
    ]
    names = [name for group in made for name in group.categories]
    labels = [label for group in made for label in group.labels]
    return Calibration(
        output=urls.public(output.url),
        run_id=output.record["run_id"],
        weights_sha256=output.detector["weights_sha256"],
        corrections=corrections,
        claim=claim,
        reviewed=run.reviewed,
        images=run.images,
        groups=made,
        overall=maker.group("all", names, labels, np.ones(len(right), bool), claim),
        attempt=attempt,
    )


def _counted(output: Output, matched: Matched, attempt: int) -> _Run:
    """All images of the output as it was after an attempt."""
    run = _Run(max(output.every_category), {uri for uri in matched.uris if uri is not None})
    anew = redone(output, attempt)
    for table in output.tables(boxes.COLUMNS, ("ok",), task="counting"):
        run.add(boxes.from_table(table.filter(~among(table["image_id"].to_numpy(), anew))))
    return run


def _check_claim(claim: Claim, boxes: int, reviewed: int) -> None:
    if boxes < claim.least:
        images = math.ceil(claim.least * reviewed / max(boxes, 1))
        raise UsageError(
            f"{words.count(boxes, 'reviewed box')} cannot show with a confidence of "
            f"{claim.confidence:g} that {claim.precision:.4g} of all are right, even if every one "
            f"of them is: that takes {claim.least:,}, from about {words.count(images, 'image')}; "
            "review more, or lower --precision"
        )


def _groups(
    output: Output, classes: Classes, matched: Matched, boxes: np.ndarray
) -> list[tuple[str, list[str], list[int], list[int]]]:
    """Name, class names, label ids and the truth's category ids of each group.

    Args:
        boxes: [m] the truth's category id of each reviewed box.
    """
    ids = matched.truth.ids_of(classes.names)
    labels: dict[int, list[int]] = {}
    for label in output.every_category:
        if (place := classes.places[label]) >= 0 and ids[place] >= 0:
            labels.setdefault(place, []).append(label)
    own = {p for p in labels if np.count_nonzero(boxes == ids[p]) >= OWN_BOXES}
    rare = [place for place in labels if place not in own]
    names = classes.names
    groups = [(names[p], [names[p]], labels[p], [ids[p]]) for p in labels if p in own]
    if rare:
        name = names[rare[0]] if len(rare) == 1 else f"{len(rare)} rare ones"
        together = [label for place in rare for label in labels[place]]
        groups.append((name, [names[p] for p in rare], together, [ids[p] for p in rare]))
    return groups


class _Maker:
    """Makes groups out of the boxes of a review."""

    def __init__(self, every: Reviewed, run: _Run, share: float) -> None:
        self.every = every
        self.run = run
        self.share = share
        self.curve = fit(every)
        self.fitted = cross_fitted(every)

    def group(
        self, name: str, names: list[str], labels: list[int], chosen: np.ndarray, claim: Claim
    ) -> Group:
        mine = self.every.of(chosen)
        curve, fitted = self.curve, self.fitted[chosen]
        if len(mine.right) >= OWN_CURVE:
            curve, fitted = fit(mine), cross_fitted(mine)
        correlation = guarantee.intraclass(mine, curve(mine.scores))
        counts = self.run.counts[labels].sum(0)
        threshold = guarantee.lowest(mine, counts, self.share, claim, correlation)
        return Group(
            name=name,
            categories=names,
            labels=labels,
            boxes=len(mine.right),
            right=int(np.count_nonzero(mine.right)),
            correlation=correlation,
            error_before=calibration_error(mine.scores, mine.right),
            error_after=calibration_error(fitted, mine.right),
            curve=curve,
            threshold=threshold,
            accepted_share=_share(counts, threshold),
        )


def _share(counts: np.ndarray, threshold: float | None) -> float:
    """Of the boxes of a histogram, how many reach a threshold that is one of its edges."""
    if threshold is None:
        return 0.0
    every = guarantee.at_least(counts)
    edge = round(threshold * (len(guarantee.EDGES) - 1))
    return float(every[edge] / every[0])
