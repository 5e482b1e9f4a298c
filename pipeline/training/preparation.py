"""Annotations, images and weights brought together: what every worker is handed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline import words
from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.labels.evaluate import evaluate
from pipeline.labels.match import Matched
from pipeline.labels.truth import Truth, told
from pipeline.training import examples, model, start
from pipeline.training.examples import Found
from pipeline.training.folder import Folder
from pipeline.training.loop import Task
from pipeline.training.recipe import Recipe
from pipeline.training.start import Start
from pipeline.words import versions

log = logging.getLogger(__name__)


def prepared(
    truth: Truth,
    val: Truth | None,
    config: Config,
    recipe: Recipe,
    begun: Start,
    folder: Folder,
    listed: bool,
) -> tuple[Task, dict[str, Any]]:
    """What every worker is handed, and the record of it."""
    mine, held = (truth, val) if val else examples.split(truth, recipe.holdout)
    if not mine.ids:
        raise UsageError(f"--holdout {recipe.holdout:g} leaves no image to train on; lower it")
    least = min(model.SCALES) if "scale" in recipe.augment else 1.0
    shrinks_to = examples.shrinking(begun.options, least)
    given = examples.find(mine, config, listed, shrinks_to)
    measured = _held_out(held, given, config, recipe, listed, shrinks_to)
    labels = _labels(given.truth, begun)
    task = Task(
        config=config,
        recipe=recipe,
        start=begun,
        examples=[replace(x, categories=labels[x.categories]) for x in given.examples],
        held_out=measured.truth,
        held_uris=measured.uris,
        category_ids=np.array([-1, *_ids(measured.truth, begun)]),
        folder=folder,
    )
    notes = _notes(given, measured, begun)
    for line in notes:
        log.info("%s", line)
    boxes = int(sum(len(x.categories) for x in task.examples))
    if not boxes:
        raise UsageError(
            f"no box of {truth.url} can be used: {told(given.left_out) or 'all are held out'}"
        )
    log.info(
        "%s with %s to train on, %s held out",
        words.count(len(task.examples), "image"),
        words.count(boxes, "box"),
        words.count(len(measured.uris), "image"),
    )
    record = {
        "finished": None,
        "began": time.time(),
        "versions": versions("prelabel", "torch", "torchvision", "ray"),
        "device": config.device,
        "workers": recipe.workers,
        "categories": {str(label): name for label, name in begun.categories.items()},
        "images": len(task.examples),
        "boxes": boxes,
        "held_out": len(measured.uris),
        "batch_norm": "frozen" if model.freezes_statistics(begun, recipe) else "updated",
        "notes": notes,
        "epochs": [],
    }
    return task, record


def _held_out(
    held: Truth,
    given: Found,
    config: Config,
    recipe: Recipe,
    listed: bool,
    shrinks_to: Callable[[int, int], float],
) -> Found:
    """What AP is measured on.

    Raises:
        UsageError: it has no box, or is trained on.
    """
    if not recipe.val and not recipe.holdout:
        return Found(held, [])
    if not held.ids:
        raise UsageError(
            f"--holdout {recipe.holdout:g} holds no image out, for there are few: raise it, give "
            "--val, or --holdout 0 to train all epochs without measuring"
        )
    found = examples.find(held, config, listed, shrinks_to)
    if both := set(found.uris) & {example.uri for example in given.examples}:
        shown = words.printable(min(both), 200)
        raise UsageError(
            f"{words.count(len(both), 'image')} of --val would be trained on, too, such as {shown}:"
            " leave them out of one of the two"
        )
    if evaluate(found.truth, Matched(found.truth, True)).metrics["AP"] is None:
        raise UsageError(
            "the images that are held out have no box, so that there is no AP: raise --holdout, "
            "give --val, or --holdout 0"
        )
    return found


def _ids(truth: Truth, begun: Start) -> list[int]:
    """[classes - 1] the truth's category id of each label from 1, -1 where it has none."""
    ids = dict(zip(begun.categories, truth.ids_of([*begun.categories.values()]), strict=True))
    return [ids.get(label, -1) for label in range(1, begun.options["num_classes"])]


def _labels(truth: Truth, begun: Start) -> np.ndarray:
    """[largest category id + 1] int64, the network's label of each."""
    labels = np.zeros(max(truth.category_ids.values(), default=0) + 1, np.int64)
    for label, category in enumerate(_ids(truth, begun), start=1):
        if category >= 0:
            labels[category] = label
    return labels


def _notes(given: Found, measured: Found, begun: Start) -> list[str]:
    """What is not as one would expect, a line each."""
    notes = [*given.notes, *(f"held out: {line}" for line in measured.notes)]
    if given.truth.unreviewed:
        count = words.count(given.truth.unreviewed.total(), "image")
        notes.append(f"{count} not reviewed, left out: {told(given.truth.unreviewed)}")
    if given.truth.left_out:
        count = words.count(given.truth.left_out.total(), "annotation")
        notes.append(f"{count} left out: {told(given.truth.left_out)}")
    drawn = {int(k) for example in given.examples for k in example.categories}
    names = {name for name, category in given.truth.category_ids.items() if category in drawn}
    unseen = start.missing([*begun.categories.values()], dict(enumerate(names)))
    if unseen:
        notes.append(
            f"no box to learn from, kept as they are: {words.printable(', '.join(unseen))}"
        )
    if begun.new:
        notes.append(f"new classes: {words.printable(', '.join(begun.new))}")
    strange = start.missing(list(measured.truth.category_ids), begun.categories)
    if strange:
        listed = words.printable(", ".join(strange))
        notes.append(f"held out, but of no class of the network, never found: {listed}")
    return notes
