"""How a network is trained: one frozen, checked description beside the run's own `Config`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any

from pipeline.config import Option
from pipeline.errors import UsageError, nearest
from pipeline.locations import checked_url
from pipeline.options import COUNTED, Number, check_choices, check_numbers

# where none is given, by optimizer: AdamW's for fine-tuning, and what torchvision's references give
# SGD for each 4 images of a batch
LR = {"adamw": 1e-4, "sgd": 5e-3}
AUGMENTATIONS = ("flip", "vflip", "scale", "color", "crop")
CHOICES = {"optimizer": tuple(LR), "batch_norm": ("auto", "frozen", "updated")}
NUMBERS = {
    **dict.fromkeys(("epochs", "batch", "patience", "workers"), COUNTED),
    "seed": Number(True, lambda seed: 0 <= seed < 2**63, "a whole number from 0 to 2**63 - 1"),
    "holdout": Number(False, lambda share: 0 <= share < 1, "at least 0 and below 1"),
    "lr": Number(False, lambda rate: 0 < rate < math.inf, "a number above 0"),
    "weight_decay": Number(False, lambda decay: 0 <= decay < math.inf, "0 or more"),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Each field says what it is.

    Raises:
        UsageError: a value that no training could have.
    """

    val: Annotated[
        str | None, Option("annotations of the images that AP is measured on", "TRUTH")
    ] = None
    holdout: Annotated[
        float,
        Option("without --val: share of the images held out, chosen by their file names", "SHARE"),
    ] = 0.2
    new_predictor: Annotated[
        bool,
        Option(
            "forget the checkpoint's classes: new last layers, only for the classes of "
            "--categories and TRUTH",
            "",
        ),
    ] = False
    epochs: Annotated[int, Option("most passes over the images", "N")] = 20
    patience: Annotated[int, Option("end after N epochs without a better AP", "N")] = 5
    batch: Annotated[int, Option("images per step, of all workers together", "N")] = 4
    optimizer: Annotated[str, Option("adamw or sgd", "NAME")] = "adamw"
    lr: Annotated[
        float | None,
        Option(f"highest learning rate (default {LR['adamw']:g}; sgd {LR['sgd']:g})", "X"),
    ] = None
    weight_decay: Annotated[float, Option("weight decay of the optimizer", "X")] = 1e-4
    augment: Annotated[
        tuple[str, ...], Option(f"any of {', '.join(AUGMENTATIONS)}; or none", "NAME")
    ] = ("flip", "scale", "color")
    batch_norm: Annotated[
        str,
        Option(
            "frozen: statistics stay the checkpoint's; updated: each batch's own; auto: updated "
            "only for random weights",
            "HOW",
        ),
    ] = "auto"
    seed: Annotated[int, Option("random seed of order, augmentations and new layers", "N")] = 0
    workers: Annotated[
        int | None, Option("processes of Ray Train, one per GPU (default: this process)", "N")
    ] = None

    def __post_init__(self) -> None:
        if self.val is not None:
            object.__setattr__(self, "val", checked_url("val", self.val))
        augment = () if tuple(self.augment) == ("none",) else tuple(dict.fromkeys(self.augment))
        object.__setattr__(self, "augment", augment)
        check_numbers(self, NUMBERS)
        check_choices(self, CHOICES)
        for name in self.augment:
            if name not in AUGMENTATIONS:
                raise UsageError(f"augment has an unknown name {nearest(name, AUGMENTATIONS)}")
        if self.workers and self.batch % self.workers:
            raise UsageError(
                f"batch ({self.batch}) must be a multiple of workers ({self.workers}), because "
                "each takes the same number of images"
            )

    @property
    def highest_lr(self) -> float:
        """The learning rate after the warm-up."""
        return LR[self.optimizer] if self.lr is None else self.lr

    def identity(self) -> dict[str, Any]:
        """The fields that decide what comes out."""
        fields = dataclasses.asdict(self) | {"lr": self.highest_lr}
        del fields["workers"]  # an epoch has the same steps on any number of them
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
