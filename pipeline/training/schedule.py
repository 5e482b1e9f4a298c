"""When a training ends, at which rate it learns, and in which order it sees its images."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

from pipeline import words
from pipeline.training.recipe import Recipe

# of the steps of the first epoch, at most; the first gradients of new layers are large
WARM_UP_STEPS = 500


def ended(history: list[dict[str, Any]], recipe: Recipe) -> bool:
    """Whether all epochs are done, or AP has not risen for too long."""
    if len(history) >= recipe.epochs:
        return True
    return bool(history) and len(history) - best(history) >= recipe.patience


def best(history: list[dict[str, Any]]) -> int:
    """The epoch of the highest AP, the first of them; the last one where nothing is held out, or
    where no epoch has found anything yet, as at the start from random weights.
    """
    values = [figures["metrics"]["AP"] for figures in history if figures["metrics"]]
    return int(np.argmax(values)) + 1 if any(values) else len(history)


def told(history: list[dict[str, Any]], epochs: int) -> str:
    """The last epoch in a line."""
    last = history[-1]
    line = f"epoch {last['epoch']} of {epochs}: loss {last['loss']:.3f}"
    if last["metrics"]:
        top = best(history)
        line += f", AP {last['metrics']['AP']:.3f}"
        line += " (the best)" if top == last["epoch"] else f" (the best in epoch {top})"
    return f"{line}, {words.duration(last['seconds'] + last['seconds_measuring'])}"


def seed_of(*parts: int) -> int:
    """A seed of its own for each list of numbers."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:7])


def learning_rate(step: int, steps_an_epoch: int, epochs: int) -> float:
    """Share of the highest rate: a linear warm-up, then half a cosine (Loshchilov and Hutter, SGDR,
    2017) that ends at 0 with the last epoch.

    Args:
        step: from 0.
        steps_an_epoch, epochs: of the whole training.
    """
    warm = min(WARM_UP_STEPS, steps_an_epoch)
    if step < warm:
        return (step + 1) / warm
    rest = max(1, steps_an_epoch * epochs - warm)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / rest))


def order(examples: int, recipe: Recipe, epoch: int) -> list[int]:
    """Places of the examples in the order of an epoch, the same for all workers; some of them once
    more, so that each batch is full.
    """
    random = np.random.default_rng(seed_of(recipe.seed, epoch))
    shuffled = random.permutation(examples)
    steps = math.ceil(len(shuffled) / recipe.batch)
    return [int(place) for place in np.resize(shuffled, steps * recipe.batch)]
