"""The epochs of a training, the same in one process and in many."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from pipeline import words
from pipeline.config import Config
from pipeline.errors import RunError, UsageError
from pipeline.labels.evaluate import Evaluation
from pipeline.labels.truth import Truth
from pipeline.training import measure, model, pixels, schedule
from pipeline.training.augment import Augmentation
from pipeline.training.examples import Example
from pipeline.training.folder import STATE, Folder
from pipeline.training.pixels import Image
from pipeline.training.recipe import Recipe
from pipeline.training.start import Start

log = logging.getLogger(__name__)
SAY_SECONDS = 30.0
# images in a row that cannot be read any more, after which the store is taken to be away
MOST_UNREAD = 20


@dataclass(frozen=True)
class Task:
    """What every worker is handed.

    Attributes:
        examples: what is trained on; their categories are label ids of the network.
        held_out: annotations of what AP is measured on; of no image where nothing is held out.
        held_images: each one of it.
        category_ids: [classes] int64, the id in `held_out` of each label, -1 where it has none.
        folder: that all is written to.
        identity: what may not differ when a training goes on, as JSON has it.
        attempt: by which `folder.own` knows whether another training has taken over since.
    """

    config: Config
    recipe: Recipe
    start: Start
    examples: list[Example]
    held_out: Truth
    held_images: list[Image]
    category_ids: np.ndarray
    folder: Folder
    identity: dict[str, Any]
    attempt: str


@dataclass(frozen=True)
class World:
    """The processes that train together.

    Attributes:
        rank, size: the number of this process, and of all.
        device: of this process.
        wrap: makes a model whose gradients are the mean of those of all processes.
        gather: what each process gives, in the order of their ranks.
    """

    rank: int
    size: int
    device: torch.device
    wrap: Callable[[nn.Module], nn.Module]
    gather: Callable[[np.ndarray], list[np.ndarray]]


def alone(device: torch.device) -> World:
    """This process, and no other."""
    return World(0, 1, device, lambda model: model, lambda found: [found])


def run(task: Task, world: World, after: Callable[[list[dict[str, Any]]], None]) -> None:
    """Train from where the folder says it ended, or from the start, to the end.

    Args:
        task: what to do.
        world: who does it.
        after: called on rank 0 after each epoch with the figures of all until then, once its state
            is written.

    Raises:
        RunError: the training diverges, the images are away, or another one has taken over.
        UsageError: the folder cannot be written, or its state is not that of its record.
    """
    network = model.network(task.start, task.recipe).to(world.device)
    chosen = model.optimizer(network, task.recipe)
    history: list[dict[str, Any]] = []
    if state := _state(task, world):
        network.load_state_dict(state["model"])
        chosen.load_state_dict(state["optimizer"])
        history = state["history"]
        if world.rank == 0:  # for the process may have ended before it was called
            after(history)
    wrapped = world.wrap(network)
    while not schedule.ended(history, task.recipe):
        history.append(_epoch(task, world, wrapped, network, chosen, len(history) + 1))
        if world.rank == 0:
            _save(task, network, chosen, history)
            after(history)
            log.info("%s", schedule.told(history, task.recipe.epochs))


def _epoch(
    task: Task,
    world: World,
    wrapped: torch.nn.Module,
    network: FasterRCNN,
    chosen: torch.optim.Optimizer,
    epoch: int,
) -> dict[str, Any]:
    """Train and measure once; returns the figures of it, which are of all processes."""
    began = time.monotonic()
    # so that an epoch is the same whether or not the training was broken off before it
    torch.manual_seed(schedule.seed_of(task.recipe.seed, epoch, world.rank))
    mine, unread = _train(task, world, wrapped, chosen, epoch)
    every = np.stack(world.gather(np.array([*mine.values(), unread])))  # each had its own images
    losses = dict(zip(mine, every[:, :-1].mean(0).tolist(), strict=True))
    trained = time.monotonic()
    found = _measure(task, world, network)
    # annotations may write them in another case
    names = {task.category_ids[label]: name for label, name in task.start.categories.items()}
    rates = {names.get(e["id"], e["name"]): e["AP"] for e in found.categories} if found else None
    return {
        "epoch": epoch,
        "lr": chosen.param_groups[0]["lr"],
        "loss": sum(losses.values()),
        "losses": losses,
        "metrics": found.metrics if found else None,
        "categories": rates,
        "unread": int(every[:, -1].sum()),
        "seconds": trained - began,
        "seconds_measuring": time.monotonic() - trained,
    }


def _state(task: Task, world: World) -> dict[str, Any] | None:
    """What the training goes on from; None where it has just begun.

    Raises:
        UsageError: it has epochs, and what is there is not of them.
    """
    epochs = task.folder.own(task.attempt)["epochs"]
    state = task.folder.state(world.device)
    if state and state.get("identity") == task.identity:
        return state
    if epochs:
        why = f"a {STATE} of another training" if state else f"no {STATE}"
        raise UsageError(f"{task.folder.url} holds epochs but {why}: give another folder as --to")
    if state and world.rank == 0:
        url = task.folder.url_of(STATE)
        log.warning("%s belongs to another training; this one starts from the beginning", url)
    return None


def _train(
    task: Task, world: World, wrapped: nn.Module, chosen: torch.optim.Optimizer, epoch: int
) -> tuple[dict[str, float], int]:
    """Mean losses of an epoch by name, and how many images could not be read."""
    model.set_training(wrapped, model.freezes_statistics(task.start, task.recipe))
    order = schedule.order(len(task.examples), task.recipe, epoch)
    steps, mine = len(order) // task.recipe.batch, task.recipe.batch // world.size
    stream = _Stream(task, order[world.rank :: world.size])
    total: dict[str, float] = {}
    said = time.monotonic()
    for number in range(steps):
        done = (epoch - 1) * steps + number
        rate = schedule.learning_rate(done, steps, task.recipe.epochs)
        for group in chosen.param_groups:
            group["lr"] = task.recipe.highest_lr * rate
        pairs = [next(stream.examples) for _ in range(mine)]
        images = [image.to(world.device) for image, _ in pairs]
        targets = [{k: v.to(world.device) for k, v in target.items()} for _, target in pairs]
        for name, value in model.step(wrapped, chosen, images, targets).items():
            total[name] = total.get(name, 0.0) + value / steps
        if world.rank == 0 and time.monotonic() - said > SAY_SECONDS:
            said, loss = time.monotonic(), sum(total.values()) * steps / (number + 1)
            log.info("epoch %d: step %d of %d, loss %.3f", epoch, number + 1, steps, loss)
    return total, stream.unread


class _Stream:
    """Examples in order, augmented; one that cannot be read any more gives its place to the next.

    Attributes:
        examples: pairs of an image [3, h, w] and its target, as `model.step` takes them.
        unread: how many could not be read.
    """

    def __init__(self, task: Task, order: list[int]) -> None:
        self.task, self.order, self.unread = task, order, 0
        self.augment = Augmentation(task.recipe.augment)
        self.examples = self._examples()

    def _examples(self) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        failed = 0
        while failed < MOST_UNREAD:
            wanted = [self.task.examples[place] for place in self.order]
            read = pixels.read_many(self.task.config, (example.image for example in wanted))
            for example, image in zip(wanted, read, strict=True):
                if not isinstance(image, str):
                    failed = 0
                    yield self.augment(image, example.xyxy, example.categories)
                    continue
                failed, self.unread = failed + 1, self.unread + 1
                shown = words.printable(example.image.uri, 200)
                log.warning("%s can no longer be read, left out: %s", shown, image)
                if failed >= MOST_UNREAD:
                    break
        raise RunError(
            f"{failed} images in a row can no longer be read; check that their store can be reached"
        )


def _measure(task: Task, world: World, network: nn.Module) -> Evaluation | None:
    if not task.held_images:
        return None
    if world.size > 1:
        measure.share_buffers(network, world.gather)
    mine = dict(list(enumerate(task.held_images))[world.rank :: world.size])
    found = measure.detections(network, mine, task.category_ids, task.config, world.device)
    return measure.measured(task.held_out, found, world.gather)


def _save(
    task: Task,
    network: nn.Module,
    chosen: torch.optim.Optimizer,
    history: list[dict[str, Any]],
) -> None:
    """The checkpoint first: if this process ends between the two, the epoch is done again."""
    state = network.state_dict()
    task.folder.own(task.attempt)
    if schedule.best(history) == len(history):
        task.folder.write_checkpoint(state, task.start.categories, task.start.options)
        task.folder.own(task.attempt)  # it may have taken long
    saved = {"model": state, "optimizer": chosen.state_dict(), "history": history}
    task.folder.write_state(saved | {"identity": task.identity})
