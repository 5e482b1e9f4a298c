"""What a replica and its network agree on; apart, as torch takes seconds to be imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

ARCHITECTURE = "fasterrcnn_resnet50_fpn_v2"
# Environment of a process that holds an engine on a CPU. glibc reads it when the process starts;
# without it each feature map is taken from the system and given back, page by page.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
}


@dataclass(frozen=True)
class Weights:
    """Weights that fit the network, and what they are called.

    Attributes:
        model_id: architecture and origin, as it stands in every output row.
        sha256: of the file; of all tensors for `random:SEED`.
        trained: False for `random:SEED`.
        categories: label id to name, without 0, the background; empty where nobody gave names.
        state: state dict of the network, as NumPy arrays so that processes of a node can share it.
        options: keywords for `network.build.build`.
    """

    model_id: str
    sha256: str
    trained: bool
    categories: dict[int, str]
    state: dict[str, np.ndarray]
    options: dict[str, Any]


@dataclass(frozen=True)
class Boxes:
    """The detections of one image, highest score first.

    Attributes:
        xyxy: [N, 4] float32, pixels of the image as given.
        labels: [N] int64, the network's class ids; 0, the background, does not occur.
        scores: [N] float32 in (0, 1].
    """

    xyxy: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class ShortOfMemory(Exception):
    """A micro-batch does not fit the device."""


class DeviceLost(Exception):
    """The device does nothing more for this process."""


class Engine(Protocol):
    """What turns pixels into boxes; see `network.engine.Engine`.

    Attributes:
        name: what it computes on, and in which precision.
        in_flight: how many calls gain from being made at once.
    """

    name: str
    in_flight: int

    def padded_shape(self, height: int, width: int) -> tuple[int, int]: ...

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]: ...


# builds the engine of a replica from the weights, "cuda" or "cpu", a number of threads, a precision
EngineFactory = Callable[[Weights, str, int, str], Engine]
