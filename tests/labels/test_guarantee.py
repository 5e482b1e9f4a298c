"""The promise against its definition, and against draws whose truth is known."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from scipy.stats import beta

from pipeline.errors import UsageError
from pipeline.labels.calibration import Claim
from pipeline.labels.guarantee import (
    EDGES,
    Reviewed,
    design_effect,
    histogram,
    intraclass,
    lowest,
    shown,
)
from pipeline.labels.isotonic import fit
from tests.support.reviews import draw

CLAIM = Claim(0.9, 0.95)


def test_how_many_boxes_are_needed() -> None:
    assert (Claim(0.98, 0.95).needed, Claim(0.999, 0.95).needed) == (149, 2995)
    assert Claim(0.98, 0.95).least == 298
    assert Claim(0.98, 0.95).among(5).confidence == pytest.approx(0.99)


@pytest.mark.parametrize("values", [(1.0, 0.95), (0.0, 0.95), (0.9, 1.0), (float("nan"), 0.95)])
def test_a_claim_that_cannot_be(values: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="must be above 0 and below 1, not"):
        Claim(*values)


def test_as_clopper_and_pearson_where_others_are_many() -> None:
    for boxes in (20, 28, 29, 100, 500):
        for wrong in range(boxes // 10 + 2):
            bound = beta.ppf(0.95, wrong + 1, boxes - wrong)
            if abs(bound - 0.1) > 1e-4:
                assert shown(CLAIM, boxes, wrong, 10**8, 1.0) == (bound < 0.1)


def test_no_number_of_wrong_boxes_is_missed_too_often() -> None:
    """Without replacement, by counting all draws: 30 of 60 boxes are reviewed."""
    for every in range(61):
        missed = sum(
            comb(every, wrong) * comb(60 - every, 30 - wrong)
            for wrong in range(31)
            if wrong <= every and shown(CLAIM, 30, wrong, 30, 1.0) and every - wrong > 3
        )
        assert missed / comb(60, 30) <= 0.05
    assert shown(CLAIM, 60, 0, 60, 1.0) and not shown(CLAIM, 60, 0, 60, 2.0)
    assert shown(CLAIM, 60, 0, 10**8, 2.0) and not shown(CLAIM, 60, 1, 10**8, 2.0)


def test_boxes_of_one_image_count_for_less() -> None:
    images = np.repeat(np.arange(10), 5)
    mixed = Reviewed(np.ones(50), np.tile([True, True, True, True, False], 10), images)
    assert design_effect(mixed, 0.0) == 1 and design_effect(mixed, 1.0) == 5
    spoiled = Reviewed(np.ones(50), images > 0, images)
    assert design_effect(spoiled, 0.0) == pytest.approx(5)
    half = np.full(50, 0.5)
    together = Reviewed(half, np.repeat(np.arange(10) % 2 == 0, 5), images)
    apart = Reviewed(half, np.tile([True, False], 25), images)
    assert intraclass(together, half) == 1 and intraclass(apart, half) == 0


def missed(together: float, as_images: bool) -> tuple[float, float]:
    """In what share of draws less than was promised is right, and in what share is a promise.

    Args:
        together: as of `draw`.
        as_images: whether it is told which boxes are of one image.
    """
    random, claims, misses, draws = np.random.default_rng(4), 0, 0, 60
    for _ in range(draws):
        every = draw(random, 300, together)
        mine = np.isin(every.images, random.permutation(300)[:150])
        reviewed, rest = every.of(mine), every.of(~mine)
        if not as_images:
            images = np.arange(len(reviewed.images))
            reviewed = Reviewed(reviewed.scores, reviewed.right, images)
        correlation = intraclass(reviewed, fit(reviewed)(reviewed.scores))
        threshold = lowest(reviewed, histogram(every.scores), 0.5, CLAIM, correlation)
        if threshold is not None:
            claims += 1
            kept = rest.right[rest.scores >= np.float32(threshold)]
            misses += kept.mean() < CLAIM.precision
    return misses / draws, claims / draws


@pytest.mark.parametrize("together", [0.0, 2.0])
def test_the_promise_is_kept(together: float) -> None:
    misses, claims = missed(together, as_images=True)
    assert misses <= 0.05 and claims > 0.5


def test_as_if_boxes_were_independent_it_is_not() -> None:
    assert missed(2.0, as_images=False)[0] > 0.1


def test_the_search_ends_at_the_first_that_fails() -> None:
    """A run of wrong boxes in the middle of the scores; what lies below it would pass again."""
    scores = np.linspace(0.99, 0.1, 4000).astype(np.float32)
    right = np.ones(4000, bool)
    right[600:700] = False
    every = Reviewed(scores, right, np.arange(4000))
    mine = every.of(np.arange(4000) % 2 == 0)
    below = every.of(every.scores >= 0.1)
    assert shown(CLAIM, 2000, 50, 2000, 1.0) and below.right.mean() > 0.97
    threshold = lowest(mine, histogram(every.scores), 0.5, CLAIM, 0.0)
    assert threshold is not None and scores[700] < threshold < scores[600]
    right[:40] = False
    assert lowest(mine.of(mine.scores > 0), histogram(scores), 0.5, Claim(0.99, 0.95), 0.0) is None


def test_the_search_begins_where_a_claim_can_be_shown() -> None:
    """The first steps hold 20, then 40 reviewed boxes, of 29 that it takes; one is wrong."""
    scores = np.linspace(0.99, 0.1, 1000).astype(np.float32)
    right = np.ones(1000, bool)
    right[0] = False
    every = Reviewed(scores, right, np.arange(1000))
    mine = every.of(np.arange(1000) % 2 == 0)
    assert lowest(mine, histogram(scores), 0.5, CLAIM, 0.0) == pytest.approx(0.1, abs=1e-3)
    assert not shown(CLAIM, 40, 1, 40, 1.0)


def test_scores_are_counted_as_they_are_compared() -> None:
    scores = np.array([0.0, 0.3, 0.29999998, 0.99995, 1.0], np.float32)
    counts = histogram(scores)
    for edge in (0, 3000, 9999, 10000):
        assert counts[edge:].sum() == np.count_nonzero(scores >= EDGES[edge])
