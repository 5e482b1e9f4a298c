"""The network's weights: found, hashed and checked, once for the run."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_V2_Weights,
    fasterrcnn_resnet50_fpn_v2,
)

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.network.contract import ARCHITECTURE, Weights
from pipeline.words import explain, without_secrets

CLASSIFIER = "roi_heads.box_predictor.cls_score.weight"
# what the builder takes for training or downloading; inference from a state dict needs none of it
BUILDER_ONLY = ("weights_backbone", "trainable_backbone_layers", "num_classes", "progress")

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
    state, sha256, names = _state(config, read)
    options = {k: v for k, v in config.model.items() if k not in BUILDER_ONLY}
    options["num_classes"] = _checked_classes(config, state)
    _check_fit(config, state, options)
    _check_finite(config, state)
    trained = not config.weights.startswith("random:")
    named = config.weights == "COCO_V1" or not trained
    origin = config.weights if named else os.path.basename(without_secrets(config.weights))
    return Weights(
        model_id=f"{ARCHITECTURE}/{origin}",
        sha256=sha256,
        trained=trained,
        categories=_categories(config, options["num_classes"], names, read),
        state={name: tensor.numpy() for name, tensor in state.items()},
        options=options,
    )


# ------------------------------------------------------------------------------- origins


def _state(config: Config, read: Read) -> tuple[dict[str, torch.Tensor], str, list[str] | None]:
    """The state dict, its sha256, and the names of its classes, if it brings them."""
    if config.weights.startswith("random:"):
        state = _random_state(config)
        digest = hashlib.sha256()
        for name in sorted(state):
            digest.update(name.encode() + state[name].numpy().tobytes())
        return state, digest.hexdigest(), None
    if config.weights == "COCO_V1":
        path = _coco_v1(bool(config.model.get("progress", True)))
        names = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
        return *_from_file(path, read), names
    return *_from_file(config.weights, read), None


def _random_state(config: Config) -> dict[str, torch.Tensor]:
    seed = config.weights.removeprefix("random:")
    if not seed.isdecimal():
        raise UsageError(f"weights random:SEED takes a whole number, not {seed!r}")
    options = dict(config.model)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            return dict(
                fasterrcnn_resnet50_fpn_v2(
                    weights=None,
                    weights_backbone=options.pop("weights_backbone", None),
                    **options,
                ).state_dict()
            )
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(f"torchvision refuses the model options: {error}") from error


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


def _from_file(url: str, read: Read) -> tuple[dict[str, torch.Tensor], str]:
    data = read("weights", url)
    return _parse(url, data), hashlib.sha256(data).hexdigest()


def _parse(url: str, data: bytes) -> dict[str, torch.Tensor]:
    try:
        if without_secrets(url).endswith(".safetensors"):
            import safetensors.torch

            loaded: Any = safetensors.torch.load(data)
        else:
            # torchvision's training script keeps its arguments in the checkpoint
            with torch.serialization.safe_globals([argparse.Namespace]):
                loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"weights {url} refused: the file is no plain state dict, and loading it could "
            f"execute code; save model.state_dict() or convert it to .safetensors"
        ) from error
    except Exception as error:  # whatever the readers make of a damaged file
        raise UsageError(f"weights {url} cannot be loaded: {explain(error)}") from error
    if isinstance(loaded, dict) and isinstance(loaded.get("model"), dict):
        loaded = loaded["model"]  # torchvision's reference training script
    if not isinstance(loaded, dict) or not all(torch.is_tensor(v) for v in loaded.values()):
        raise UsageError(f"weights {url} hold no state dict")
    return {
        name.removeprefix("module."): v.float() if v.is_floating_point() else v
        for name, v in loaded.items()
    }


# ------------------------------------------------------------------------------- checks


def _checked_classes(config: Config, state: Mapping[str, torch.Tensor]) -> int:
    if CLASSIFIER not in state:
        raise UsageError(
            f"weights {config.weights} are not of a {ARCHITECTURE}: they have no {CLASSIFIER}"
        )
    classes = state[CLASSIFIER].shape[0]
    wanted = config.model.get("num_classes", classes)
    if wanted != classes:
        raise UsageError(
            f"model.num_classes is {wanted}, but weights {config.weights} have {classes} classes "
            f"(background included)"
        )
    return int(classes)


def _check_fit(
    config: Config, state: Mapping[str, torch.Tensor], options: Mapping[str, Any]
) -> None:
    try:
        with torch.device("meta"):
            model = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **options)
    except (ValueError, TypeError) as error:
        raise UsageError(f"torchvision refuses the model options: {error}") from error
    expected = model.state_dict()
    wrong = [f"{name} is missing" for name in expected if name not in state]
    wrong += [f"{name} is unknown" for name in state if name not in expected]
    wrong += [
        f"{name} has shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UsageError(
            f"weights {config.weights} do not fit {ARCHITECTURE}: {'; '.join(wrong[:3])}{more}"
        )


def _check_finite(config: Config, state: Mapping[str, torch.Tensor]) -> None:
    """Of what is no number, a network makes images without boxes."""
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise UsageError(
                f"weights {config.weights} hold what is no finite number, first in {name}; was the "
                f"training broken off or did it diverge? Give an earlier checkpoint"
            )


def _categories(
    config: Config, classes: int, names: list[str] | None, read: Read
) -> dict[int, str]:
    """Label id to name, background left out; COCO JSON keeps its own ids."""
    if config.categories is None:
        if names is None and config.weights.startswith("random:") and classes == 91:
            names = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
        return dict(enumerate(names[1:], start=1)) if names else {}
    data = read("categories", config.categories)
    try:
        text = data.decode("utf-8")
        if config.categories.endswith(".json"):
            entries = json.loads(text)["categories"]
            found = {int(entry["id"]): str(entry["name"]) for entry in entries}
        else:
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            found = dict(enumerate(lines, start=1))
    except (ValueError, KeyError, TypeError) as error:
        reason = explain(error)
        raise UsageError(f"cannot read categories {config.categories}: {reason}") from error
    if not found or min(found) < 1 or max(found) >= classes or _too_few(config, found, classes):
        raise UsageError(
            f"categories {config.categories} name {len(found)} classes with ids up to "
            f"{max(found, default=0)}, but weights {config.weights} have {classes - 1} beside the "
            f"background"
        )
    return found


def _too_few(config: Config, found: Mapping[int, str], classes: int) -> bool:
    # a text list must name each class; COCO's JSON ids have gaps
    json_ids = str(config.categories).endswith(".json")
    return max(found) != classes - 1 if json_ids else len(found) != classes - 1
