"""Scores as probabilities: isotonic regression, and how far scores are from being probabilities."""

from __future__ import annotations

import numpy as np
from scipy.optimize import isotonic_regression

from pipeline.labels.calibration import Curve
from pipeline.labels.guarantee import Reviewed

BINS = 10
FOLDS = 5


def fit(reviewed: Reviewed) -> Curve:
    """The isotonic regression of right on score; at least one box.

    Its knots are the means of its steps. No probability comes nearer to 0 or 1 than m boxes can
    tell: 1 / (m + 2), Laplace's rule of succession.
    """
    order = np.argsort(reviewed.scores, kind="stable")
    scores, firsts = np.unique(reviewed.scores[order], return_index=True)
    many = np.diff([*firsts, len(order)])
    rates = np.add.reduceat(reviewed.right[order].astype(np.float64), firsts) / many
    found = isotonic_regression(rates, weights=many)
    starts = found.blocks[:-1]
    weights = np.add.reduceat(many, starts)
    knots = np.add.reduceat(scores.astype(np.float64) * many, starts) / weights
    least = 1 / (len(order) + 2)
    return Curve(knots, np.clip(found.x[starts], least, 1 - least))


def calibration_error(probabilities: np.ndarray, right: np.ndarray) -> float:
    """The detection expected calibration error by score, 0 to 1: the mean distance between the
    probability that is said and the share that is right, in ten bins of equal width (D-ECE:
    Kueppers and others, "Multivariate confidence calibration for object detection", 2020).

    Args:
        probabilities: [m] 0 to 1.
        right: [m] bool.
    """
    bins = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, probabilities - right, BINS)
    return float(np.abs(gaps).sum() / max(len(right), 1))


def cross_fitted(reviewed: Reviewed) -> np.ndarray:
    """[m] float32, each box's probability by a curve that its own image had no part in.

    Where a curve has no other image to be made of, the score stays.
    """
    images, places = np.unique(reviewed.images, return_inverse=True)
    folds = np.random.default_rng(0).permutation(len(images))[places] % FOLDS
    found = reviewed.scores.astype(np.float32).copy()
    for fold in range(FOLDS):
        mine = folds == fold
        if mine.any() and not mine.all():
            found[mine] = fit(reviewed.of(~mine))(reviewed.scores[mine])
    return found
