"""From which score on at least a given share of the boxes is right, shown by reviewed images.

What is promised is about the images that nobody has reviewed, and holds for finite numbers: it is
the bound of Clopper and Pearson ("The use of confidence or fiducial limits", Biometrika 1934) in
its form for draws without replacement. Thresholds are tested from the highest score down, up to the
first that fails, so that many tests cost no more than one (fixed sequence testing: Angelopoulos and
others, "Learn then Test", 2021; Bates and others, "Distribution-free, risk-controlling prediction
sets", JACM 2021).

It assumes that the reviewed images are a random draw of the run's. Boxes of one image are right or
wrong together more than chance would have it, so they count for fewer: their number is divided by
the design effect (Kish, "Survey sampling", 1965; Korn and Graubard, "Confidence intervals for
proportions with small expected number of positive counts", Survey Methodology 1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom

from pipeline.labels.calibration import Claim

# scores are told apart to the ten-thousandth, so that the boxes of any run fit in a histogram
EDGES = (np.arange(10_001) / 10_000).astype(np.float32)
# thresholds that are tested: each lets another 4 % of the boxes in. With finer steps the last to
# pass does so by luck more often, and few boxes are gained
STEPS = 25
# below, how much the boxes of one image go together cannot be told
LEAST_IMAGES = 30


@dataclass(frozen=True)
class Reviewed:
    """m boxes of which it is known whether they are right.

    Attributes:
        scores: [m] float32.
        right: [m] bool.
        images: [m] int64, a number for each box's image.
    """

    scores: np.ndarray
    right: np.ndarray
    images: np.ndarray

    def of(self, chosen: np.ndarray) -> Reviewed:
        """Those of [m] bool."""
        return Reviewed(self.scores[chosen], self.right[chosen], self.images[chosen])


def shown(claim: Claim, boxes: int, wrong: int, others: int, effect: float) -> bool:
    """Whether reviewed boxes, for which a claim must be true, show it of others.

    Args:
        claim: what is to be shown.
        boxes: number of those that were reviewed.
        wrong: number of wrong ones among them.
        others: number of those that were not.
        effect: design effect of the reviewed ones, 1 or more.
    """
    if wrong > (1 - claim.precision) * boxes:
        return False
    # to six decimals, for an effect of 1 is not always 1 to the last bit
    boxes = math.floor(round(boxes / effect, 6))
    wrong = math.ceil(round(wrong / effect, 6))
    others = math.floor(round(others / effect, 6))
    most = math.floor((1 - claim.precision) * others + 1e-9)
    # if the others held one more than that, so few among the reviewed would be improbable
    total = boxes + others
    chance = hypergeom.cdf(wrong, total, min(total, wrong + most + 1), boxes)
    return bool(chance <= 1 - claim.confidence)


def histogram(scores: np.ndarray) -> np.ndarray:
    """[len(EDGES)] int64, how many scores lie from each edge up to the next."""
    places = np.searchsorted(EDGES, scores, side="right") - 1
    return np.bincount(places, minlength=len(EDGES))


def at_least(counts: np.ndarray) -> np.ndarray:
    """[len(EDGES)] int64, how many scores of a histogram are at least each edge."""
    found: np.ndarray = np.cumsum(counts[::-1])[::-1]
    return found


def intraclass(reviewed: Reviewed, probabilities: np.ndarray) -> float:
    """Correlation of two boxes of one image in being right, 0 to 1, after what their scores say.

    Args:
        reviewed: m boxes.
        probabilities: [m] of being right, by the scores alone.
    """
    spread = probabilities * (1 - probabilities)
    parts = []
    for values, squares in (
        (reviewed.right - probabilities, (reviewed.right - probabilities) ** 2),
        (np.sqrt(spread), spread),
    ):
        # the products of all pairs of one image
        sums = np.bincount(reviewed.images, values)
        parts.append(float(np.sum(sums**2) - np.sum(squares)))
    together, most = parts
    return min(1.0, max(0.0, together / most)) if most > 0 else 0.0


def design_effect(chosen: Reviewed, correlation: float) -> float:
    """By how much fewer boxes count than they are, 1 or more: what the correlation makes of the
    numbers of boxes an image, or, where that is more, what the wrong boxes themselves show.

    Few boxes are wrong at high scores, and they can be of a few images that are all wrong.
    """
    sizes = np.bincount(chosen.images)
    boxes = max(int(sizes.sum()), 1)
    expected = 1 + correlation * (float(np.sum(sizes**2)) / boxes - 1)
    wrong = np.bincount(chosen.images, ~chosen.right)
    rate = float(wrong.sum()) / boxes
    chance = rate * (1 - rate) * boxes
    seen = float(np.sum((wrong - rate * sizes) ** 2)) / chance if chance else 1.0
    return max(expected, seen)


def lowest(
    reviewed: Reviewed, counts: np.ndarray, share: float, claim: Claim, correlation: float
) -> float | None:
    """The lowest score from which on the claim is shown of the boxes that were not reviewed.

    Args:
        reviewed: boxes of a random draw of the run's images.
        counts: [len(EDGES)] int64, of all boxes of the run, as from `histogram`.
        share: of the run's images, how many were reviewed.
        claim: what is to be shown.
        correlation: as from `intraclass`.

    Returns:
        One of `EDGES`; None where nothing is shown.
    """
    every = at_least(counts)
    targets = np.ceil(np.arange(1, STEPS + 1) * every[0] / STEPS)
    edges = np.unique(np.searchsorted(-every, -targets, side="right") - 1)[::-1]
    # chosen by what is known without the review. Twice as many as are needed: from fewer, one box
    # that is wrong would end the search at its start
    edges = edges[every[edges] * share >= claim.least]
    found = None
    for edge in edges.tolist():
        chosen = reviewed.of(reviewed.scores >= EDGES[edge])
        boxes = len(chosen.scores)
        wrong = boxes - int(np.count_nonzero(chosen.right))
        effect = design_effect(chosen, correlation)
        if not shown(claim, boxes, wrong, int(every[edge]) - boxes, effect):
            break
        found = edge / (len(EDGES) - 1)
    return found
