"""Standard augmentations: torchvision's, of an image and its boxes together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from pipeline.training.examples import LEAST_SIDE


class Augmentation:
    """What is done to an example before the network's own transform; `scale` is done there.

    Args:
        names: of `recipe.AUGMENTATIONS`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        known: dict[str, nn.Module] = {
            "color": v2.RandomPhotometricDistort(),
            "crop": v2.RandomIoUCrop(),
            "flip": v2.RandomHorizontalFlip(),
            "vflip": v2.RandomVerticalFlip(),
        }
        self.steps = [(name, step) for name, step in known.items() if name in names]
        # a crop leaves boxes without an area
        self.clean = v2.SanitizeBoundingBoxes(min_size=LEAST_SIDE)

    def __call__(
        self, pixels: np.ndarray, xyxy: np.ndarray, labels: np.ndarray
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """
        Args:
            pixels: [height, width, 3] uint8.
            xyxy: [n, 4] float32, pixels of it.
            labels: [n] int64.

        Returns:
            [3, h, w] float32 in 0 to 1; `boxes` [m, 4] float32, pixels of that, and `labels` [m]
            int64. What is drawn is torch's to draw.
        """
        image = tv_tensors.Image(torch.tensor(pixels).permute(2, 0, 1))
        boxes = tv_tensors.BoundingBoxes(
            torch.tensor(xyxy),
            format=tv_tensors.BoundingBoxFormat.XYXY,
            canvas_size=image.shape[-2:],
        )
        target = {"boxes": boxes, "labels": torch.tensor(labels)}
        for name, step in self.steps:
            if name == "crop":
                if not len(target["labels"]):  # it looks for a crop that has some
                    continue
                image, target = self.clean(*step(image, target))
            else:
                image, target = step(image, target)
        plain = {name: value.as_subclass(Tensor) for name, value in target.items()}
        return image.as_subclass(Tensor).float() / 255, plain
