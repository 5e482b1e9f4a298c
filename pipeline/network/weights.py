"""The network's weights: found, hashed and checked, once for the run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torchvision.models import ResNet50_Weights
from torchvision.models.detection import (
    FasterRCNN,
    FasterRCNN_ResNet50_FPN_V2_Weights,
    fasterrcnn_resnet50_fpn_v2,
)

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.network import categories
from pipeline.network.brought import Brought, brought
from pipeline.network.checkpoints import CLASSIFIER, state_dict
from pipeline.network.contract import ARCHITECTURE, Weights
from pipeline.options import checked_options
from pipeline.words import explain, printable, without_secrets

COUNTER = "num_batches_tracked"  # of batches in training, which some savers leave out
COCO_CLASSES = 91  # background included
# what the builder takes for training or downloading; inference from a state dict needs none of it
BUILDER_ONLY = ("weights_backbone", "trainable_backbone_layers", "num_classes", "progress")
# keys of other networks of torchvision's, which have the same classifier
RELATIVES = {
    "roi_heads.mask_predictor.mask_fcn_logits.weight": "a Mask R-CNN",
    "roi_heads.keypoint_predictor.kps_score_lowres.weight": "a Keypoint R-CNN",
    "backbone.body.0.0.weight": "one with a MobileNet for a backbone",
    "roi_heads.box_head.fc6.weight": "the older fasterrcnn_resnet50_fpn, without V2",
}

# the bytes of a file that the user has named, given what it is to the user and its path or URL;
# raises UsageError. Such as `store.objects.read`: this room knows no store.
Read = Callable[[str, str], bytes]


def resolve(config: Config, read: Read) -> Weights:
    """Find, read, hash and check the weights of a run.

    Args:
        config: the run's.
        read: reads the files that it names.

    Raises:
        UsageError: they cannot be had, are unsafe to load, or do not fit the network or the
            categories.
    """
    state, sha256, known = _state(config, read)
    model = {**known.options, **config.model}
    checked_options(model)  # the one's max_size may be below the other's min_size
    options = {k: v for k, v in model.items() if k not in BUILDER_ONLY}
    options["num_classes"] = _checked_classes(config, state)
    state = _fitted(config, state, options)
    _check_finite(config, state)
    trained = not config.weights.startswith("random:")
    named = config.weights == "COCO_V1" or not trained
    origin = config.weights if named else os.path.basename(without_secrets(config.weights))
    return Weights(
        model_id=f"{ARCHITECTURE}/{origin}",
        sha256=sha256,
        trained=trained,
        categories=_categories(config, options["num_classes"], known.categories, read),
        state={name: tensor.numpy() for name, tensor in state.items()},
        options=options,
    )


# ------------------------------------------------------------------------------- origins


def _state(config: Config, read: Read) -> tuple[dict[str, torch.Tensor], str, Brought]:
    """The state dict, its sha256, and what else it says of the network."""
    if config.weights.startswith("random:"):
        state = _random_state(config)
        digest = hashlib.sha256()
        for name in sorted(state):
            digest.update(name.encode() + state[name].numpy().tobytes())
        coco = config.model.get("num_classes", COCO_CLASSES) == COCO_CLASSES
        return state, digest.hexdigest(), Brought(_coco_names() if coco else {})
    if config.weights == "COCO_V1":
        path = _coco_v1(bool(config.model.get("progress", True)))
        return *_from_file(path, read)[:2], Brought(_coco_names())
    return _from_file(config.weights, read)


def _coco_names() -> dict[int, str]:
    names = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
    return dict(enumerate(names[1:], start=1))


def _random_state(config: Config) -> dict[str, torch.Tensor]:
    seed = config.weights.removeprefix("random:")
    if not seed.isdecimal() or int(seed) >= 2**64:
        raise UsageError(f"weights random:SEED takes a whole number below 2**64, not {seed!r}")
    backbone = config.model.get("weights_backbone", "DEFAULT")
    known = list(ResNet50_Weights.__members__)
    if backbone.removeprefix("ResNet50_Weights.") not in known:
        listed = ", ".join(known)
        raise UsageError(f"model.weights_backbone must be one of {listed}, not {backbone!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        return dict(_network(config.model).state_dict())


def _network(options: Mapping[str, Any]) -> FasterRCNN:
    """
    Raises:
        UsageError: torchvision builds none of these keywords.
    """
    try:
        return fasterrcnn_resnet50_fpn_v2(**{"weights_backbone": None, **options, "weights": None})
    # it asserts some, looks others up in tables, and may download a backbone
    except Exception as error:
        raise UsageError(f"torchvision refuses the model options: {explain(error)}") from error


def _coco_v1(progress: bool) -> str:
    """Where torchvision keeps its checkpoint, which is downloaded if it is not there yet."""
    weights = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1
    path = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(weights.url))
    try:
        if not os.path.exists(path):
            weights.get_state_dict(progress=progress, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"the COCO_V1 weights are not in {os.path.dirname(path)} and cannot be downloaded "
            f"({explain(error)}); pass --weights PATH_OR_URL of a .pth or .safetensors "
            f"file, or --weights random:0 for a dry run with an untrained network"
        ) from error
    return path


def _from_file(url: str, read: Read) -> tuple[dict[str, torch.Tensor], str, Brought]:
    data = read("weights", url)
    return state_dict(url, data), hashlib.sha256(data).hexdigest(), brought(url, data)


# ------------------------------------------------------------------------------- checks


def _checked_classes(config: Config, state: Mapping[str, torch.Tensor]) -> int:
    shape = tuple(state[CLASSIFIER].shape)
    if len(shape) != 2 or shape[0] < 2:
        raise UsageError(
            f"weights {config.weights} are not of a {ARCHITECTURE}: {CLASSIFIER} has shape "
            f"{shape}, not one row per class, the background included"
        )
    wanted = config.model.get("num_classes", shape[0])
    if wanted != shape[0]:
        raise UsageError(
            f"model.num_classes is {wanted}, but weights {config.weights} have {shape[0]} classes "
            f"(background included)"
        )
    return shape[0]


def _fitted(
    config: Config, state: Mapping[str, torch.Tensor], options: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """The state dict with a zero for each counter that it has not."""
    with torch.device("meta"):
        expected = _network({**options, "progress": False}).state_dict()
    counters = {n: torch.zeros_like(t, device="cpu") for n, t in expected.items() if COUNTER in n}
    fitted = {**counters, **state}
    missing = [f"{name} is missing" for name in expected if name not in fitted]
    unknown = [f"{name} is unknown" for name in fitted if name not in expected]
    other = [
        wrong
        for name, tensor in expected.items()
        if name in fitted and (wrong := _difference(name, fitted[name], tensor))
    ]
    shown = missing[:2] + unknown[:2] + other[:2]
    if shown:
        more = len(missing) + len(unknown) + len(other) - len(shown)
        also = f", and {more} more" if more else ""
        told = printable("; ".join(shown), 600)
        looks = [what for name, what in RELATIVES.items() if name in state]
        like = f"; this one looks like {looks[0]}" if looks else ""
        raise UsageError(
            f"weights {config.weights} do not fit {ARCHITECTURE}: {told}{also}; give a state dict "
            f"of torchvision's {ARCHITECTURE}{like}"
        )
    return fitted


def _difference(name: str, found: torch.Tensor, expected: torch.Tensor) -> str:
    if found.shape != expected.shape:
        return f"{name} has shape {tuple(found.shape)}, not {tuple(expected.shape)}"
    if expected.is_floating_point() and not found.is_floating_point():
        return f"{name} is of {found.dtype}, not of {expected.dtype}"
    return ""


def _check_finite(config: Config, state: Mapping[str, torch.Tensor]) -> None:
    """Of what is no number, a network makes images without boxes."""
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise UsageError(
                f"weights {config.weights} hold values that are not finite, first in {name}; the "
                "training may have diverged or been interrupted: give an earlier checkpoint"
            )


def _categories(config: Config, classes: int, known: dict[int, str], read: Read) -> dict[int, str]:
    """Label id to name, background left out."""
    if config.categories is not None:
        data = read("categories", config.categories)
        return categories.parse(data, config.categories, config.weights, classes)
    if known and (min(known) < 1 or max(known) >= classes):
        raise UsageError(
            f"weights {config.weights} name classes with ids from {min(known)} to {max(known)}, "
            f"but have {classes - 1} beside the background; name them with --categories"
        )
    return known
