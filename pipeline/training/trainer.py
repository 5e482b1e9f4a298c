"""A training from its annotations to its checkpoint."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from pipeline import words
from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.labels.truth import Truth, load_truth
from pipeline.options import check_training
from pipeline.store import urls
from pipeline.training import loop, preparation, report, schedule, start
from pipeline.training.folder import REPORT, Folder
from pipeline.training.loop import Task
from pipeline.training.recipe import Recipe
from pipeline.training.start import Start

log = logging.getLogger(__name__)
# fields of the run's configuration that decide what comes out
PIXELS = ("depth_range", "bands", "accept_truncated")


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


def train(url: str, config: Config, recipe: Recipe, listed: bool) -> Outcome:
    """Fine-tune the network; a training that was broken off goes on after its last whole epoch.

    Args:
        url: of annotations, in any form that `load_truth` takes.
        config: `input` is where the images are, `output` the folder to write to; `weights`,
            `categories` and `model` the network to start from; the rest is how images are read.
        recipe: how it is trained.
        listed: see `examples.locate`.

    Raises:
        UsageError: annotations, images, weights or folder cannot be used, or the folder holds
            another training.
        RunError: the training diverges, or its images or workers are away.
    """
    check_training(config.model)
    device = None if recipe.workers else _device(config)
    folder = Folder(config.output)
    known = folder.record()
    truth = load_truth(url)
    val = load_truth(recipe.val) if recipe.val else None
    shown = _shown(truth)
    begun = start.start(config, recipe, shown)
    wanted = _identity(config, recipe, begun, truth, val)
    if known and known["epochs"]:
        _check_same(known["identity"], wanted, folder.url)
        if known["finished"]:
            log.info("%s is finished already; nothing to do", folder.url)
            return Outcome(known, folder)
    task, record = preparation.prepared(truth, val, config, recipe, begun, folder, listed)
    record["identity"] = wanted
    if known and known["epochs"]:
        log.info("goes on after epoch %d", len(known["epochs"]))
        record |= {name: known[name] for name in ("began", "epochs")}
    folder.write_record(record)
    _run(task, device, record)
    return Outcome(record, folder)


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
    written = task.folder.record() or record  # by whichever process has the rank 0
    record["finished"] = time.time()
    note(task.folder, record, written["epochs"])
    task.folder.forget_state()


def note(folder: Folder, record: dict[str, Any], history: list[dict[str, Any]]) -> None:
    """Write the record with the figures of all epochs until now, and the report."""
    record["epochs"] = history
    folder.write_record(record)
    folder.write(REPORT, report.html(record, folder.url).encode(errors="replace"))


def _shown(truth: Truth) -> list[str]:
    """Names of the categories that have boxes, in order of id."""
    drawn = set(np.unique(truth.box_categories[~truth.crowds]).tolist())
    if not drawn:
        raise UsageError(f"{truth.url} has no box, and without one nothing can be learned")
    return [name for name, category in truth.category_ids.items() if category in drawn]


# ------------------------------------------------------------------------------- identity


def _identity(
    config: Config, recipe: Recipe, begun: Start, truth: Truth, val: Truth | None
) -> dict[str, Any]:
    """What may not differ when a training goes on."""
    return {
        "weights": begun.sha256,
        "classes": {str(label): name for label, name in begun.categories.items()},
        "annotations": _digest(truth),
        "model": dict(config.model),
        **{name: getattr(config, name) for name in PIXELS},
        **recipe.identity(),
        "val": _digest(val) if val else None,
    }


def _digest(truth: Truth) -> str:
    digest = hashlib.sha256(repr([*map(urls.public, truth.names), truth.category_ids]).encode())
    for array in (truth.image_places, truth.box_categories, truth.xywh, truth.crowds):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _check_same(known: Mapping[str, Any], wanted: Mapping[str, Any], url: str) -> None:
    for name, value in wanted.items():
        before = known.get(name)
        # JSON knows no tuples
        if before != (list(value) if isinstance(value, tuple) else value):
            told = "" if name in ("annotations", "weights") else f" ({before!r}, now {value!r})"
            raise UsageError(
                f"{url} holds a training with other {name}{words.printable(told)}: give the same, "
                "or another folder as --to"
            )
