"""What a checkpoint says of its network beside the tensors: class names and options."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import UsageError
from pipeline.network.checkpoints import length_of_header
from pipeline.options import checked_options
from pipeline.words import explain

# key of its metadata under which a training of ours says what it knows of the network
METADATA = "prelabel"


@dataclass(frozen=True)
class Brought:
    """What a checkpoint says of its network beside the tensors; nothing, if it is no training's.

    Attributes:
        categories: label id to name, without 0, the background.
        options: keywords of the network that it was trained with, as `options.checked_options`
            gives them.
    """

    categories: dict[int, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def brought(url: str, data: bytes) -> Brought:
    """What a training of ours wrote into the header of its safetensors.

    Args:
        url: of the file, for messages.
        data: its bytes, of which `state_dict` could make something.

    Raises:
        UsageError: it makes no sense.
    """
    length = length_of_header(data)
    header = json.loads(data[8 : 8 + length]) if length else {}
    text = (header.get("__metadata__") or {}).get(METADATA)
    if text is None:
        return Brought()
    try:
        content = json.loads(text)
        names = {int(label): name for label, name in content["categories"].items()}
        if not all(isinstance(name, str) and name for name in names.values()):
            raise ValueError("a class has no name")
        return Brought(names, checked_options(content["model"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"weights {url} have a description of their network that makes no sense "
            f"({explain(error)}); copy them again, or use the version that they were trained with"
        ) from error
