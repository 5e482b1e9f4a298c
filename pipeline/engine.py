"""Pixels to boxes, labels and scores: torchvision's own forward on a micro-batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.model import Weights, build


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


class Engine:
    """torchvision's `fasterrcnn_resnet50_fpn_v2` on one device.

    `GeneralizedRCNNTransform` pads a batch to its largest image, which moves boxes a little. In a
    batch of one padded shape each image gets what it gets alone; `padded_shape` tells which
    images may share one.
    """

    def __init__(self, weights: Weights, device: str, threads: int) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(
                "Ray gave this replica a GPU, but torch sees none: install torch with CUDA and a "
                "driver on the GPU nodes, or pass --device cpu"
            )
        if device == "cpu":
            torch.set_num_threads(threads)
        self.device = torch.device(device)
        self.model = build(weights.state, weights.options).to(self.device)

    def padded_shape(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the network's input for an image, after resizing and padding.

        The arithmetic of torchvision's `_resize_image_and_masks` and `batch_images`.

        Raises:
            ValueError: the image is so thin that resizing leaves nothing of its short side.
        """
        transform = self.model.transform
        if transform.fixed_size is not None:
            resized = (transform.fixed_size[1], transform.fixed_size[0])
        else:
            scale = min(
                transform.min_size[-1] / min(height, width),
                transform.max_size / max(height, width),
            )
            resized = (math.floor(height * scale), math.floor(width * scale))
        if min(resized) < 1:
            raise ValueError(
                f"{width}x{height} shrinks to {resized[1]}x{resized[0]} in the network"
            )
        multiple = transform.size_divisible
        return (
            math.ceil(resized[0] / multiple) * multiple,
            math.ceil(resized[1] / multiple) * multiple,
        )

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        """Detect objects in images of one padded shape.

        Args:
            images: each [height, width, 3] RGB uint8.

        Raises:
            torch.OutOfMemoryError: the micro-batch does not fit the GPU.
        """
        tensors = [
            torch.from_numpy(np.require(image, requirements=["C", "W"]))
            .to(self.device)
            .permute(2, 0, 1)
            .to(torch.float32)
            .div(255)
            for image in images
        ]
        return [
            Boxes(
                xyxy=found["boxes"].cpu().numpy(),
                labels=found["labels"].cpu().numpy(),
                scores=found["scores"].cpu().numpy(),
            )
            for found in self.model(tensors)
        ]
