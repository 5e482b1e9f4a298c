"""How much is measured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import MICRO_BATCH


@dataclass(frozen=True)
class Extent:
    """
    Attributes:
        device: `cuda` or `cpu`.
        images: number of different images.
        batch: images in a batch of torchvision's.
        micro_batch: images in a batch of the engine's, as `jobs.detect` has it.
        rounds: how often each row has its turn.
        seconds: that a turn takes at least; it ends with a whole pass over the images.
        piped: number of images of the run from end to end.
        rows_per_file: of that run, whose files tell how it went on.
        model: options of the network, where the user gives none.
        threads: that decode, and on a CPU those of the network.
    """

    device: str
    images: int
    batch: int
    micro_batch: int
    rounds: int
    seconds: float
    piped: int
    rows_per_file: int
    model: Mapping[str, Any] = field(default_factory=dict)
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)


# A GPU has thirty seconds of each row in a full measurement. On a CPU, which needs seconds for an
# image, a turn is one pass over a few.
EXTENTS = {
    ("cuda", False): Extent("cuda", 512, 8, MICRO_BATCH["cuda"], 3, 10.0, 16_384, 1024),
    ("cuda", True): Extent("cuda", 128, 8, MICRO_BATCH["cuda"], 2, 3.0, 4096, 256),
    ("cpu", False): Extent("cpu", 8, 2, MICRO_BATCH["cpu"], 3, 0.0, 48, 8),
    ("cpu", True): Extent(
        "cpu", 4, 2, MICRO_BATCH["cpu"], 2, 0.0, 24, 8, {"min_size": 320, "max_size": 533}
    ),
}
