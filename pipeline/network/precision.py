"""What the network multiplies in, and which of that is the default where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

# what convolutions and the first layer of the box head multiply; they sum up in float32
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
# Short side of images in the network from which on half precision was measured to move boxes no
# further than torchvision's own forward moves them on the same GPU; see benchmarks/engine.md.
HALF_FROM_SIDE = 352
# torchvision's default of that side
MIN_SIZE = 800


def chosen(tf32: bool, options: Mapping[str, Any]) -> str:
    """The fastest precision that moves boxes no further than torchvision's own forward does.

    Args:
        tf32: whether it runs on a GPU that has that, which rounds what convolutions multiply to 10
            bits of mantissa, as many as float16 has.
        options: keywords of the network, which tell the size of images in it.
    """
    sides = options.get("fixed_size") or options.get("min_size", MIN_SIZE)
    if isinstance(sides, int):
        side = sides
    else:  # of several min_size torchvision takes the last one
        side = min(sides) if options.get("fixed_size") else sides[-1]
    return "fp16" if tf32 and side >= HALF_FROM_SIDE else "fp32"
