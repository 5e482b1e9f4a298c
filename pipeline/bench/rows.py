"""What is measured: four ways in which a torchvision user would write it, and the engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.bench import device
from pipeline.bench.extent import Extent
from pipeline.bench.feed import Batch, bucketed, in_order
from pipeline.network.build import build
from pipeline.network.contract import Boxes, Weights
from pipeline.network.engine import Engine

Forward = Callable[[Sequence[np.ndarray]], list[Boxes]]
TF32_OFF = ", TF32 off"


@dataclass(frozen=True)
class Row:
    """One way to get boxes for images.

    Attributes:
        name: in the table.
        arithmetic: of its products: `fp32`, `tf32` or `fp16`, of which the peak is its floor.
        batches: places of the images that are given together, each image once.
        build: makes what turns a batch, each image [height, width, 3] RGB uint8, into boxes.
        tf32: of `device.rounding` where it is built and called.
    """

    name: str
    arithmetic: str
    batches: list[Batch]
    build: Callable[[], Forward]
    tf32: bool = True


def rows(weights: Weights, shapes: Sequence[tuple[int, int]], extent: Extent) -> list[Row]:
    """
    Args:
        weights: of all of them.
        shapes: padded (height, width) of each image.
        extent: says on what device, and in what batches.
    """
    gpu = extent.device == "cuda"
    arithmetic = "tf32" if gpu else "fp32"
    arrival = in_order(len(shapes), extent.batch)
    equal = bucketed(shapes, extent.batch)

    def eager() -> Forward:
        return Eager(weights, extent.device)

    found = [
        Row("eager", arithmetic, in_order(len(shapes), 1), eager),
        Row("arrival", arithmetic, arrival, eager),
        Row("bucketed", arithmetic, equal, eager),
    ]
    if gpu:
        found.append(Row("autocast", "fp16", equal, lambda: Autocast(weights, extent.device)))
    batches = bucketed(shapes, extent.micro_batch)

    def engine(precision: str) -> Forward:
        return Engine(weights, extent.device, extent.threads, precision)

    found.append(Row("engine", arithmetic, batches, lambda: engine("fp32")))
    if gpu:
        found.append(Row("engine fp16", "fp16", batches, lambda: engine("fp16")))
        found += [
            dataclasses.replace(
                row,
                name=f"{row.name}{TF32_OFF}",
                tf32=False,
                arithmetic=row.arithmetic.replace("tf32", "fp32"),
            )
            for row in found
        ]
    return found


class Eager:
    """torchvision's `model(images)`.

    Args:
        weights: of the network.
        device: `cuda` or `cpu`.
    """

    def __init__(self, weights: Weights, device: str) -> None:
        self.device = device
        self.model = build(weights.state, weights.options).to(device)

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        pixels = [
            torch.tensor(image).to(self.device).permute(2, 0, 1).contiguous() / 255
            for image in images
        ]
        return [
            Boxes(
                xyxy=found["boxes"].float().cpu().numpy(),
                labels=found["labels"].cpu().numpy(),
                scores=found["scores"].float().cpu().numpy(),
            )
            for found in self.model(pixels)
        ]


class Autocast(Eager):
    """The same in half precision, channels last."""

    def __init__(self, weights: Weights, device: str) -> None:
        super().__init__(weights, device)
        self.model.to(memory_format=torch.channels_last)

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        with torch.autocast(self.device, torch.float16):
            return super().__call__(images)


class Reference(Eager):
    """`model([image])` in float32, as if each image were the first that the model is given."""

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        # torchvision keeps what it inferred from the first one
        pool = self.model.roi_heads.box_roi_pool
        pool.scales = pool.map_levels = None
        with device.tf32(False, False):
            return super().__call__(images)
