"""Rates, order and end of a training."""

from __future__ import annotations

from typing import Any

from pipeline.training import schedule
from pipeline.training.recipe import Recipe


def history(*values: float | None) -> list[dict[str, Any]]:
    return [{"metrics": None if value is None else {"AP": value}} for value in values]


def test_the_rate_rises_in_the_first_epoch_and_falls_to_nothing() -> None:
    rates = [schedule.learning_rate(step, 10, 4) for step in range(40)]
    assert rates[:10] == sorted(rates[:10]) and rates[9] == rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True) and 0 < rates[-1] < 0.01


def test_an_epoch_has_every_example_and_full_batches() -> None:
    order = schedule.order(10, Recipe(batch=4), 1)
    assert len(order) == 12 and set(order) == set(range(10))
    assert order == schedule.order(10, Recipe(batch=4), 1) != schedule.order(10, Recipe(batch=4), 2)
    assert sorted(schedule.order(1, Recipe(batch=4), 1)) == [0] * 4


def test_it_ends_when_ap_has_not_risen() -> None:
    recipe = Recipe(epochs=9, patience=2)
    assert not schedule.ended([], recipe)
    assert not schedule.ended(history(0.1, 0.3, 0.2), recipe)
    assert schedule.ended(history(0.1, 0.3, 0.2, 0.3), recipe)
    assert schedule.best(history(0.1, 0.3, 0.2, 0.3)) == 2
    assert schedule.best(history(0.0, 0.0, 0.0)) == 3  # it may just have begun to learn
    assert not schedule.ended(history(0.0, 0.0, 0.0), recipe)
    assert schedule.ended(history(0.0, 0.1, 0.0, 0.0), recipe)
    assert not schedule.ended(history(*[None] * 8), recipe)
    assert schedule.ended(history(*[None] * 9), recipe) and schedule.best(history(None, None)) == 2
