"""Where a training starts from: weights, and the classes of the network to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.labels.truth import fold_class
from pipeline.network import categories
from pipeline.network.checkpoints import CLASSIFIER
from pipeline.network.weights import resolve
from pipeline.store import objects
from pipeline.training.recipe import Recipe

PREDICTOR = "roi_heads.box_predictor"
REGRESSOR = f"{PREDICTOR}.bbox_pred.weight"
# torchvision's: layers of a backbone that are trained, where it was trained before and where not
TRAINED_LAYERS, ALL_LAYERS = 3, 5


@dataclass(frozen=True)
class Start:
    """
    Attributes:
        state: state dict of the network, with a row for each of its classes.
        options: keywords for `network.build.build`.
        categories: label id to name, without 0, the background.
        new: names of the classes whose rows are new.
        sha256: of the weights, before rows were added.
        is_random: whether nothing of it was trained, but maybe its backbone.
        trained_layers: of the backbone, from its end: 0 to 5.
    """

    state: dict[str, np.ndarray]
    options: dict[str, Any]
    categories: dict[int, str]
    new: list[str]
    sha256: str
    is_random: bool
    trained_layers: int


def start(config: Config, recipe: Recipe, shown: Sequence[str]) -> Start:
    """The weights that a training starts from; a class that they lack gets rows behind theirs.

    Rows of known classes stay as they are. New ones are drawn as torchvision draws them.

    Args:
        config: names the weights; `categories` names the classes of the network to start from.
        recipe: says whether it keeps its predictor.
        shown: names of the classes that the annotations show, in their order.

    Raises:
        UsageError: the weights cannot be had, or nothing says what their classes are called.
    """
    is_random = config.weights.startswith("random:")
    if "weights_backbone" in config.model and not is_random:
        raise UsageError(
            "model.weights_backbone has no use, because the weights include a backbone: leave it "
            "out, or give --weights random:0"
        )
    trained_layers = _trained_layers(config, is_random)
    read = partial(objects.read, reading=config.reading)
    if is_random or recipe.new_predictor:
        names = _named(config, shown)
        weights = resolve(_nameless(config, max(names) + 1, is_random), read)
        kept = weights.state[CLASSIFIER].shape[0] if is_random else 0
    else:
        weights = resolve(config, read)
        names, kept = weights.categories, weights.state[CLASSIFIER].shape[0]
        if not names:
            raise UsageError(
                f"weights {config.weights} do not say what their classes are called: name them "
                "with --categories, or forget them with --new-predictor"
            )
    new = missing(shown, names)
    first = max(kept, max(names) + 1)
    every = {**names, **dict(enumerate(new, start=first))}
    return Start(
        state=_grown(weights.state, kept, first + len(new), recipe.seed),
        options={**weights.options, "num_classes": first + len(new)},
        categories=every,
        new=list(every.values()) if is_random or recipe.new_predictor else new,
        sha256=weights.sha256,
        is_random=is_random,
        trained_layers=trained_layers,
    )


def _nameless(config: Config, classes: int, is_random: bool) -> Config:
    """The configuration of a network whose predictor is to be made, with so many classes.

    Raises:
        UsageError: it says another number of them.
    """
    wanted = config.model.get("num_classes", classes)
    if wanted != classes:
        raise UsageError(
            f"model.num_classes is {wanted}, but there are {classes - 1} classes and the "
            "background: leave it out, or name all of them with --categories"
        )
    # torchvision warns of the layers where there is no backbone yet that was trained
    without = ("num_classes", "trainable_backbone_layers")
    model = {name: value for name, value in config.model.items() if name not in without}
    if is_random:
        model["num_classes"] = classes
    return replace(config, categories=None, model=model)


def _named(config: Config, shown: Sequence[str]) -> dict[int, str]:
    """Label ids and names of a predictor that is to be made."""
    if not config.categories:
        return dict(enumerate(shown, start=1))
    data = objects.read("categories", config.categories, config.reading)
    return categories.parse(data, config.categories, config.weights, None)


def missing(shown: Sequence[str], known: Mapping[int, str]) -> list[str]:
    """The names that are not among the known ones, in whatever case."""
    folded = {fold_class(name) for name in known.values()}
    return [name for name in shown if fold_class(name) not in folded]


def _trained_layers(config: Config, is_random: bool) -> int:
    untrained = is_random and "weights_backbone" not in config.model
    given = config.model.get("trainable_backbone_layers")
    if untrained and given not in (None, ALL_LAYERS):
        raise UsageError(
            f"model.trainable_backbone_layers is {given}, but a backbone of random weights must be "
            "trained as a whole: leave it out, or give model.weights_backbone"
        )
    return given if given is not None else ALL_LAYERS if untrained else TRAINED_LAYERS


def _grown(
    state: Mapping[str, np.ndarray], kept: int, classes: int, seed: int
) -> dict[str, np.ndarray]:
    """The state with a predictor of so many classes, of which the first `kept` have its rows."""
    if kept == classes:
        return dict(state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = FastRCNNPredictor(state[CLASSIFIER].shape[1], classes).state_dict()
    grown = dict(state)
    for name, tensor in new.items():
        array, rows = tensor.numpy(), kept * (4 if name.startswith("bbox_pred") else 1)
        array[:rows] = state[f"{PREDICTOR}.{name}"][:rows]
        grown[f"{PREDICTOR}.{name}"] = array
    return grown
