"""Annotations, images and weights brought together: what every worker is handed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline import words
from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.labels.evaluate import evaluate
from pipeline.labels.match import Matched
from pipeline.labels.truth import Truth, fold_class, told
from pipeline.training import examples, model, start
from pipeline.training.examples import Found
from pipeline.training.folder import Folder
from pipeline.training.loop import Task
from pipeline.training.recipe import Recipe
from pipeline.training.start import Start
from pipeline.words import versions


def prepared(
    truth: Truth,
    val: Truth | None,
    config: Config,
    recipe: Recipe,
    begun: Start,
    folder: Folder,
    identity: dict[str, Any],
    listed: bool,
) -> tuple[Task, dict[str, Any]]:
    """What every worker is handed, and the record of it."""
    mine, held = (truth, val) if val else examples.split(truth, recipe.holdout)
    if not mine.ids:
        raise UsageError(f"--holdout {recipe.holdout:g} leaves no image to train on; lower it")
    # before images are read, which may take long
    labels = {category: label for label, category in _ids(mine, begun).items()}
    held_ids = _ids(held, begun)
    least = min(model.SCALES) if "scale" in recipe.augment else 1.0
    shrinks_to = examples.shrinking(begun.options, least)
    given = examples.find(mine, config, listed, shrinks_to)
    measured = _held_out(held, given, config, recipe, listed, shrinks_to)
    if not any(len(x.categories) for x in given.examples):
        raise UsageError(
            f"no box of {truth.url} can be used: {told(given.left_out) or 'all are held out'}"
        )
    task = Task(
        config=config,
        recipe=recipe,
        start=begun,
        examples=[replace(x, categories=_labelled(x.categories, labels)) for x in given.examples],
        held_out=measured.truth,
        held_images=measured.images,
        category_ids=np.array([held_ids.get(k, -1) for k in range(begun.options["num_classes"])]),
        folder=folder,
        identity=identity,
        attempt=uuid.uuid4().hex,
    )
    return task, _record(task, _notes(given, measured, begun))


def _record(task: Task, notes: list[str]) -> dict[str, Any]:
    """What `train.json` says of a training that has no epoch yet."""
    return {
        "finished": None,
        "attempt": task.attempt,
        "identity": task.identity,
        "began": time.time(),
        "versions": versions("prelabel", "torch", "torchvision", "ray"),
        "device": task.config.device,
        "workers": task.recipe.workers,
        "categories": {str(label): name for label, name in task.start.categories.items()},
        "images": len(task.examples),
        "boxes": sum(len(example.categories) for example in task.examples),
        "held_out": len(task.held_images),
        "batch_norm": "frozen" if model.freezes_statistics(task.start, task.recipe) else "updated",
        "notes": notes,
        "epochs": [],
    }


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
            f"--holdout {recipe.holdout:g} holds no image out, because there are few images, or "
            "frames of few videos: raise it, give --val, or --holdout 0 to train all epochs "
            "without measuring"
        )
    found = examples.find(held, config, listed, shrinks_to)
    mine = {example.image.uri for example in given.examples}
    if both := {image.uri for image in found.images} & mine:
        shown = words.printable(min(both), 200)
        raise UsageError(
            f"{words.count(len(both), 'image')} of --val would also be trained on, such as "
            f"{shown}: leave them out of one of the two"
        )
    if evaluate(found.truth, Matched(found.truth, True)).metrics["AP"] is None:
        raise UsageError(
            "the images that are held out have no box, so there is no AP: raise --holdout, give "
            "--val, or --holdout 0"
        )
    return found


def _ids(truth: Truth, begun: Start) -> dict[int, int]:
    """Label of the network to the truth's category id, of each class that both have.

    Raises:
        UsageError: a category's class cannot be told.
    """
    classes = [*begun.categories.values()]
    for name, category in truth.category_ids.items():
        if category < 0:  # -1 is that of a class without a category
            raise UsageError(
                f"category {name!r} of {truth.url} has the id {category}: ids must not be below 0"
            )
    for name in truth.category_ids.keys() - set(classes):
        _check_alone(name, truth, classes)
    ids = truth.ids_of(classes)
    return {k: found for k, found in zip(begun.categories, ids, strict=True) if found >= 0}


def _check_alone(name: str, truth: Truth, classes: Sequence[str]) -> None:
    """A category that differs from a class in case must be the only one, as the class must be."""
    like = [known for known in classes if fold_class(known) == fold_class(name)]
    both = [other for other in truth.category_ids if fold_class(other) == fold_class(name)]
    if like and len(both) > 1:
        raise UsageError(
            f"{truth.url} has the categories {both[0]!r} and {both[1]!r}, but the network has "
            f"only the class {like[0]!r} for both: rename one"
        )
    if len(like) > 1:
        raise UsageError(
            f"category {name!r} of {truth.url} could be the class {like[0]!r} of the network or "
            f"{like[1]!r}: rename it to one of them"
        )


def _labelled(categories: np.ndarray, labels: Mapping[int, int]) -> np.ndarray:
    """[n] int64, the network's label of each category id."""
    return np.array([labels[category] for category in categories.tolist()], np.int64)


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
            "classes without a box to learn from, kept as they are: "
            f"{words.printable(', '.join(unseen))}"
        )
    if begun.new:
        notes.append(f"new classes: {words.printable(', '.join(begun.new))}")
    strange = start.missing(list(measured.truth.category_ids), begun.categories)
    if strange:
        listed = words.printable(", ".join(strange))
        notes.append(
            "held-out categories that are not classes of the network, counted as not found: "
            f"{listed}"
        )
    return notes
