"""A training from its annotations to its checkpoint."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from pipeline import words
from pipeline.config import PIXELS, Config
from pipeline.errors import RunError, UsageError
from pipeline.labels.truth import Truth
from pipeline.options import check_training
from pipeline.store import urls
from pipeline.training import examples, loop, preparation, report, schedule, start
from pipeline.training.folder import REPORT, Folder
from pipeline.training.loop import Task
from pipeline.training.recipe import Recipe
from pipeline.training.start import Start

log = logging.getLogger(__name__)
# fields of the run's configuration that decide what comes out; earlier trainings lack the first
IDENTITY = PIXELS[1:]


@dataclass(frozen=True)
class Outcome:
    """
    Attributes:
        record: the content of `train.json`.
        folder: in which it stands.
    """

    record: dict[str, Any]
    folder: Folder

    @property
    def best(self) -> dict[str, Any]:
        """The figures of the epoch that the checkpoint is of."""
        figures: dict[str, Any] = self.record["epochs"][schedule.best(self.record["epochs"]) - 1]
        return figures


def train(truth: Truth, val: Truth | None, config: Config, recipe: Recipe, listed: bool) -> Outcome:
    """Fine-tune the network; a training that was broken off goes on after its last whole epoch.

    Args:
        truth: annotations.
        val: of the images that AP is measured on; None to hold some of `truth` out.
        config: `input` is where the images are, `output` the folder to write to; `weights`,
            `categories` and `model` the network to start from; the rest is how images are read.
        recipe: how it is trained.
        listed: see `images.locate`.

    Raises:
        UsageError: annotations, images, weights or folder cannot be used, or the folder holds
            another training.
        RunError: the training diverges, or its images or workers are away.
    """
    check_training(config.model)
    device = None if recipe.workers else _device(config)
    folder = Folder(config.output)
    folder.record()  # what cannot be used is said first
    shown = _shown(truth)
    begun = start.start(config, recipe, shown)
    wanted = _identity(config, recipe, begun, truth, val)
    if known := _known(folder, wanted):
        if known["finished"]:
            log.info("%s is finished already; nothing to do", folder.url)
            folder.forget()  # the process may have ended before that
            return Outcome(known, folder)
        if schedule.ended(known["epochs"], recipe):
            _finish(folder, known, known["epochs"])
            return Outcome(known, folder)
    task, record = preparation.prepared(truth, val, config, recipe, begun, folder, wanted, listed)
    if known := _known(folder, wanted):  # again, for that took long
        log.info("continuing after epoch %d", len(known["epochs"]))
        record |= {name: known[name] for name in ("began", "epochs")}
    _say(record)
    folder.write_record(record)
    _run(task, device, record)
    return Outcome(record, folder)


def _say(record: Mapping[str, Any]) -> None:
    """What is trained on, and what is not as one would expect."""
    for line in record["notes"]:
        log.info("%s", line)
    nouns = {"images": "image", "boxes": "box", "held_out": "image"}
    counts = [words.count(record[name], noun) for name, noun in nouns.items()]
    log.info("%s with %s to train on, %s held out", *counts)


def _known(folder: Folder, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of what the training goes on from, if it does.

    Raises:
        UsageError: the folder holds another training.
    """
    known = folder.record()
    if not known or not known["epochs"]:
        return None
    for name, value in wanted.items():
        before = known["identity"].get(name)
        if before != value:
            told = "" if name in ("annotations", "weights") else f" ({before!r}, now {value!r})"
            raise UsageError(
                f"{folder.url} holds a training that differs in {name}{words.printable(told)}: "
                "give the same, or another folder as --to"
            )
    return known


def _device(config: Config) -> torch.device:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU here; leave it out, or give cpu")
    there = config.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if there else "cpu")


def _run(task: Task, device: torch.device | None, record: dict[str, Any]) -> None:
    """Train on the device, or on a cluster, and keep record and report up to date."""
    after = partial(note, task.folder, record)
    if device:
        loop.run(task, loop.alone(device), after)
    else:
        from pipeline.training import distributed  # which imports Ray

        distributed.run(task, after)
    # by whichever process has the rank 0
    epochs = task.folder.own(task.attempt)["epochs"]
    if not schedule.ended(epochs, task.recipe):
        raise RunError(f"the workers ended after epoch {len(epochs)} of {task.recipe.epochs}")
    _finish(task.folder, record, epochs)


def _finish(folder: Folder, record: dict[str, Any], history: list[dict[str, Any]]) -> None:
    record["finished"] = time.time()
    note(folder, record, history)
    folder.forget()


def note(folder: Folder, record: dict[str, Any], history: list[dict[str, Any]]) -> None:
    """Write the record with the figures of all epochs until now, and the report.

    Raises:
        RunError: another training has taken over.
    """
    folder.own(record.get("attempt"))
    record["epochs"] = history
    folder.write_record(record)
    folder.write(REPORT, report.html(record, folder.url).encode(errors="replace"))


def _shown(truth: Truth) -> list[str]:
    """Names of the categories that have boxes, in order of id."""
    drawn = set(np.unique(truth.box_categories[~truth.crowds]).tolist())
    if not drawn:
        raise UsageError(f"{truth.url} has no box to learn from; give annotations with boxes")
    return [name for name, category in truth.category_ids.items() if category in drawn]


def _identity(
    config: Config, recipe: Recipe, begun: Start, truth: Truth, val: Truth | None
) -> dict[str, Any]:
    """What may not differ when a training goes on, as JSON has it."""
    splits = not val and recipe.holdout
    identity = {
        "weights": begun.sha256,
        "classes": {str(label): name for label, name in begun.categories.items()},
        "annotations": _digest(truth),
        "model": dict(config.model),
        **{name: getattr(config, name) for name in IDENTITY},
        **recipe.identity(),
        "val": _digest(val) if val else None,
        # earlier trainings, which do not have this, held single frames out
        "holdout_of": "videos" if splits and examples.has_frames(truth) else None,
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _digest(truth: Truth) -> str:
    digest = hashlib.sha256(repr([*map(urls.public, truth.names), truth.category_ids]).encode())
    for array in (truth.image_places, truth.box_categories, truth.xywh, truth.crowds):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
