"""Curves against a known truth, the calibration error against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.labels.guarantee import Reviewed
from pipeline.labels.isotonic import calibration_error, cross_fitted, fit
from tests.support.reviews import draw, probability


def test_a_curve_finds_the_truth() -> None:
    every = draw(np.random.default_rng(0), 3000, 0.0)
    curve = fit(every)
    scores = np.linspace(0.2, 0.98, 20)
    assert curve(scores) == pytest.approx(probability(scores), abs=0.05)
    assert np.all(np.diff(curve(np.linspace(0, 1, 500))) >= 0)


def test_no_curve_is_surer_than_its_boxes() -> None:
    scores = np.array([0.2, 0.4, 0.4, 0.9], np.float32)
    curve = fit(Reviewed(scores, np.array([False, True, False, True]), np.arange(4)))
    assert curve(np.array([0.0, 0.4, 0.9, 1.0])) == pytest.approx([1 / 6, 0.5, 5 / 6, 5 / 6])
    assert curve(np.array([0.3])) == pytest.approx([1 / 3])


def test_the_error_by_its_definition() -> None:
    scores = np.array([0.05, 0.5, 0.55, 0.99, 1.0])
    right = np.array([False, True, False, True, True])
    # three bins have boxes: gaps of 0.05, 0.025 and 0.005 with 1, 2 and 2 of them
    assert calibration_error(scores, right) == pytest.approx((0.05 + 2 * 0.025 + 2 * 0.005) / 5)


def test_the_error_falls_where_no_box_has_a_part_in_its_curve() -> None:
    every = draw(np.random.default_rng(1), 300, 1.0)
    before = calibration_error(every.scores, every.right)
    assert calibration_error(cross_fitted(every), every.right) < before / 2


def test_an_image_has_no_part_in_its_own_curve() -> None:
    every = draw(np.random.default_rng(2), 40, 0.0)
    said = cross_fitted(every)
    for image in range(10):
        mine = every.images == image
        other = Reviewed(every.scores, every.right ^ mine, every.images)
        assert np.array_equal(cross_fitted(other)[mine], said[mine])
        assert not np.array_equal(cross_fitted(other), said) or not mine.any()
