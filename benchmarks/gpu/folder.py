"""What is brought along: one small folder of weights, pictures and their annotations.

Weights are packed as int8 by output channel: rounded, but still those of a trained network, and
whatever is compared on them is compared on the same ones.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.words import explain

LIMIT = 60_000_000
WEIGHTS, PICTURES, ANNOTATIONS, OPTIONS = (
    "weights.pth",
    "pictures",
    "annotations.json",
    "network.json",
)
SCALE = "#scale"


def pack(
    folder: Path, weights: Path, images: Path, annotations: Path, options: Mapping[str, Any]
) -> int:
    """Make the folder.

    Args:
        folder: to be made.
        weights: a state dict, or one that is packed already.
        images: where the pictures are that the annotations name.
        annotations: COCO's JSON.
        options: keywords of the network that it was trained for.

    Returns:
        Its size in bytes.

    Raises:
        UsageError: something is not there, or cannot be read, or it would be too large.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty")
    try:
        text = annotations.read_bytes()
        named = [images / entry["file_name"] for entry in json.loads(text)["images"]]
        sizes = [path.stat().st_size for path in named]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"annotations {annotations}: {explain(error)}") from error
    state = _packed_file(weights)
    total: int = len(state) + len(text) + sum(sizes)
    if total > LIMIT:
        raise UsageError(f"{total / 1e6:.1f} MB, and {LIMIT / 1e6:.0f} MB is the limit of a folder")
    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(state)
    (folder / ANNOTATIONS).write_bytes(text)
    (folder / OPTIONS).write_text(json.dumps(dict(options)))
    for path in named:
        shutil.copyfile(path, folder / PICTURES / path.name)
    return total


def check(folder: Path) -> None:
    """
    Raises:
        UsageError: it is none that `pack` made.
    """
    for name in (WEIGHTS, PICTURES, ANNOTATIONS, OPTIONS):
        if not (folder / name).exists():
            raise UsageError(f"{folder} has no {name}; make the folder by --pack")


def _packed_file(weights: Path) -> bytes:
    import torch  # late: whoever only runs the stages needs none

    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the reader makes of a damaged file
        raise UsageError(f"weights {weights} cannot be loaded: {explain(error)}") from error
    if not isinstance(state, dict) or not all(torch.is_tensor(x) for x in state.values()):
        raise UsageError(f"weights {weights} hold no state dict")
    buffer = io.BytesIO()
    torch.save(packed(state), buffer)
    return buffer.getvalue()


def packed(state: Mapping[str, Any]) -> dict[str, Any]:
    """Each float tensor [K, ...] of two or more dimensions as int8 beside its scales, [K] float32.

    All others stay as they are, and so what is packed already.
    """
    import torch

    found: dict[str, Any] = {}
    for name, x in state.items():
        if not x.is_floating_point() or x.ndim < 2:
            found[name] = x
            continue
        x = x.float()
        scale = x.flatten(1).abs().amax(1).clamp(min=torch.finfo().tiny) / 127
        found[name] = (x / _beside(scale, x)).round().to(torch.int8)
        found[name + SCALE] = scale
    return found


def unpacked(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict, floats as float32."""
    found = {}
    for name, x in state.items():
        scale = state.get(name + SCALE)
        if scale is not None:
            found[name] = x.float() * _beside(scale, x)
        elif not name.endswith(SCALE):
            found[name] = x.float() if x.is_floating_point() else x
    return found


def _beside(scale: Any, x: Any) -> Any:
    """[K] as [K, 1, ...]."""
    return scale.view(-1, *[1] * (x.ndim - 1))
