"""The network's weights: found, hashed, checked once for the run; and the network built of them."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import io
import json
import os
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torchvision.models.detection import (
    FasterRCNN,
    FasterRCNN_ResNet50_FPN_V2_Weights,
    fasterrcnn_resnet50_fpn_v2,
)

from pipeline import objects, storage
from pipeline.config import Config, UsageError
from pipeline.contract import Weights

ARCHITECTURE = "fasterrcnn_resnet50_fpn_v2"
CLASSIFIER = "roi_heads.box_predictor.cls_score.weight"
# what the builder takes for training or downloading; inference from a state dict needs none of it
BUILDER_ONLY = ("weights_backbone", "trainable_backbone_layers", "num_classes", "progress")


def resolve(config: Config) -> Weights:
    """Find, read, hash and check the weights of a run.

    Raises:
        UsageError: they cannot be had, are unsafe to load, or do not fit the network or the
            categories.
    """
    names = None
    if config.weights.startswith("random:"):
        state = _random_state(config)
        digest = hashlib.sha256()
        for name in sorted(state):
            digest.update(name.encode() + state[name].numpy().tobytes())
        origin, sha256 = config.weights, digest.hexdigest()
    elif config.weights == "COCO_V1":
        state, sha256 = _coco_v1(bool(config.model.get("progress", True)))
        names = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
        origin = config.weights
    else:
        state, sha256 = _from_file(config.weights)
        origin = os.path.basename(storage.public(config.weights))
    options = {k: v for k, v in config.model.items() if k not in BUILDER_ONLY}
    options["num_classes"] = _checked_classes(config, state)
    _check_fit(config, state, options)
    return Weights(
        model_id=f"{ARCHITECTURE}/{origin}",
        sha256=sha256,
        trained=not config.weights.startswith("random:"),
        categories=_categories(config, options["num_classes"], names),
        state={name: tensor.numpy() for name, tensor in state.items()},
        options=options,
    )


def build(state: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> FasterRCNN:
    """torchvision's V2 network in eval mode, float32 on the CPU, with these weights."""
    model = fasterrcnn_resnet50_fpn_v2(
        weights=None, weights_backbone=None, progress=False, **options
    )
    # copied, since the arrays may be read-only memory shared by all processes of a node
    tensors = {name: torch.from_numpy(array.copy()) for name, array in state.items()}
    model.load_state_dict(tensors)
    return model.eval()


def option(weights: Weights, name: str) -> Any:
    """The value of a keyword of `FasterRCNN`: the one given, else torchvision's default."""
    return weights.options.get(name, inspect.signature(FasterRCNN).parameters[name].default)


# ------------------------------------------------------------------------------- origins


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


def _coco_v1(progress: bool) -> tuple[dict[str, torch.Tensor], str]:
    weights = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1
    path = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(weights.url))
    try:
        if not os.path.exists(path):
            weights.get_state_dict(progress=progress, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"the COCO_V1 weights are not in {os.path.dirname(path)} and cannot be downloaded "
            f"({storage.explain(error)}); pass --weights PATH_OR_URL of a .pth or .safetensors "
            f"file, or --weights random:0 for a dry run with an untrained network"
        ) from error
    return _from_file(path)


def _from_file(url: str) -> tuple[dict[str, torch.Tensor], str]:
    try:
        fs, path = storage.filesystem(url)
        data = bytes(objects.retrying(lambda: fs.cat_file(path)))
    except UsageError:
        raise
    except Exception as error:  # each file system has its own
        raise storage.unusable("read", f"weights {url}", error) from error
    return _parse(url, data), hashlib.sha256(data).hexdigest()


def _parse(url: str, data: bytes) -> dict[str, torch.Tensor]:
    try:
        if storage.public(url).endswith(".safetensors"):
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
        raise UsageError(f"weights {url} cannot be loaded: {storage.explain(error)}") from error
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


def _categories(config: Config, classes: int, names: list[str] | None) -> dict[int, str]:
    """Label id to name, background left out; COCO JSON keeps its own ids."""
    if config.categories is None:
        if names is None and config.weights.startswith("random:") and classes == 91:
            names = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
        return dict(enumerate(names[1:], start=1)) if names else {}
    try:
        fs, path = storage.filesystem(config.categories)
        text = bytes(objects.retrying(lambda: fs.cat_file(path))).decode("utf-8")
        if config.categories.endswith(".json"):
            entries = json.loads(text)["categories"]
            found = {int(entry["id"]): str(entry["name"]) for entry in entries}
        else:
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            found = dict(enumerate(lines, start=1))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = storage.explain(error)
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
