"""Ways to choose the images that a person annotates next, for `benchmarks.loop`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.loop_head import Detected, Frozen, reviewed, table
from pipeline.labels import classes
from pipeline.labels.guarantee import Reviewed
from pipeline.labels.isotonic import fit
from pipeline.labels.output import Output
from pipeline.labels.review.batch import RELABELLED
from pipeline.labels.select import select
from pipeline.outputs.layout import Layout


@dataclass(frozen=True)
class Held(Output):
    """An output whose rows are in memory, so that `select` itself can be asked."""

    rows: pa.Table

    def tables(self, *_: Any, **__: Any) -> Any:
        yield self.rows


@dataclass(frozen=True)
class Pool:
    """What a rule may look at.

    Attributes:
        images: that are not annotated.
        found: detections of them, from a score of 0.05 on.
        features: [n, 1024] float32, the mean of what the box head says of an image's proposals.
        known: [m, 1024] float32, likewise of the images that are annotated.
        judged: images annotated in a round before, with what was found in them until then.
        names: of the classes.
        threshold: score from which on boxes are shown to a person.
        random: to be drawn from.
    """

    images: Sequence[Frozen]
    found: Sequence[Detected]
    features: np.ndarray
    known: np.ndarray
    judged: Sequence[tuple[Frozen, Detected]]
    names: Sequence[str]
    threshold: float
    random: np.random.Generator


# gives places in the pool, the best first
Rule = Callable[[Pool, int], list[int]]


def best(values: Sequence[float] | np.ndarray, budget: int) -> list[int]:
    return [int(k) for k in np.argsort(-np.asarray(values), kind="stable")[:budget]]


def chance(pool: Pool, budget: int) -> list[int]:
    return [int(k) for k in pool.random.permutation(len(pool.images))[:budget]]


def ours(diversity: float, **weights: float) -> Rule:
    """`pipeline.labels.select`."""

    def rule(pool: Pool, budget: int) -> list[int]:
        categories = {str(k + 1): name for k, name in enumerate(pool.names)}
        detector = {"categories": categories, "options": {"num_classes": len(categories) + 1}}
        record = {"counts": {"ok": len(pool.images)}}
        rows = table(pool.images, pool.found)
        output = Held(Layout.of("."), record, detector, rows.schema, rows)
        chosen = classes.choose(output.categories)
        found = select(output, chosen, budget, pool.threshold, diversity, weights)
        return [int(k) for k in found.rows["image_id"].to_numpy()]

    return rule


def calibrated(pool: Pool, budget: int) -> list[int]:
    """`pipeline.labels.select` by probabilities: an isotonic curve of all boxes of `judged`."""
    if pool.judged:
        images, found = zip(*pool.judged, strict=True)
        batch = reviewed(images, found, 0.0)
        right = ~batch.deleted
        right[batch.partners[batch.sources == RELABELLED]] = False
        curve = fit(Reviewed(batch.shown.scores, right, batch.shown.owners))
        pool = replace(pool, found=[replace(f, scores=curve(f.scores)) for f in pool.found])
    return ours(0.5)(pool, budget)


def entropy(pool: Pool, budget: int) -> list[int]:
    """The sum over detections (Settles 2009; over detections: Roy and others 2018)."""
    every = [found.probabilities for found in pool.found]
    return best([float(-(p * np.log(np.maximum(p, 1e-12))).sum()) for p in every], budget)


def margin(pool: Pool, budget: int) -> list[int]:
    """1-vs-2, summed up (Brust, Kaeding, Denzler 2019)."""
    tops = [np.sort(found.probabilities, 1)[:, -2:] for found in pool.found]
    return best([float(((1 - np.diff(top)) ** 2).sum()) for top in tops], budget)


def tightness(pool: Pool, budget: int) -> list[int]:
    """The detection of which class and place agree least (Kao, Lee, Sen, Liu 2018)."""
    gaps = [np.abs(found.tightness + found.scores - 1) for found in pool.found]
    return best([-gap.min() if len(gap) else -1.0 for gap in gaps], budget)


def farthest(features: np.ndarray, known: np.ndarray, budget: int) -> list[int]:
    """k-centre, greedily (Sener and Savarese 2018)."""
    near = np.linalg.norm(features[:, None] - known, axis=2).min(1)
    chosen: list[int] = []
    for _ in range(min(budget, len(features))):
        chosen.append(int(near.argmax()))
        near = np.minimum(near, np.linalg.norm(features - features[chosen[-1]], axis=1))
        near[chosen] = -1
    return chosen


def core_set(pool: Pool, budget: int) -> list[int]:
    return farthest(pool.features, pool.known, budget)


def both(pool: Pool, budget: int) -> list[int]:
    """k-centre among the twice as many of the highest entropy: the two steps of PPAL (Yang, Huang,
    Crowley 2024), without its weights by class and with one feature an image.
    """
    first = entropy(pool, 2 * budget)
    return [first[k] for k in farthest(pool.features[first], pool.known, budget)]


def most_wrong(pool: Pool, budget: int) -> list[int]:
    """By the truth, which no rule knows: the most corrections."""
    return best(reviewed(pool.images, pool.found, pool.threshold).edits, budget)


RULES: dict[str, Rule] = {
    "random": chance,
    "select, diversity 0.5": ours(0.5),
    "select, diversity 0": ours(0.0),
    "select, diversity 1": ours(1.0),
    "select, uncertainty alone": ours(0.0, disagreement=0.0, rarity=0.0, crowding=0.0),
    "select, calibrated": calibrated,
    "entropy, sum": entropy,
    "margin, sum": margin,
    "localisation tightness": tightness,
    "k-centre": core_set,
    "entropy, then k-centre": both,
    "most corrections, by the truth": most_wrong,
}
