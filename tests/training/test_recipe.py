"""Values of a training that cannot be end in one line."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.options import check_training, checked_options
from pipeline.training.recipe import Recipe


@pytest.mark.parametrize(
    "wrong,words",
    [
        ({"epochs": 0}, "epochs must be a whole number above 0"),
        ({"patience": 1.5}, "patience must be a whole number above 0"),
        ({"workers": 0}, "workers must be a whole number above 0"),
        ({"holdout": 1}, "holdout must be at least 0 and below 1"),
        ({"lr": 0}, "lr must be a number above 0"),
        ({"lr": float("nan")}, "lr must be a number above 0"),
        ({"weight_decay": -1}, "weight_decay must be 0 or more"),
        ({"optimizer": "adam"}, "optimizer must be adamw or sgd"),
        ({"batch_norm": "off"}, "batch_norm must be auto, frozen or updated"),
        ({"augment": ("flipp",)}, "did you mean 'flip'?"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"batch": 3, "workers": 2}, "a multiple of workers"),
    ],
)
def test_what_cannot_be(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        Recipe(**wrong)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_none_is_no_augmentation() -> None:
    assert Recipe(augment=("none",)).augment == ()


def test_workers_are_no_part_of_what_makes_two_trainings_the_same() -> None:
    assert Recipe(workers=2).identity() == Recipe().identity() != Recipe(seed=1).identity()
    assert Recipe(lr=1e-4).identity() == Recipe().identity()


@pytest.mark.parametrize(
    "options,words",
    [
        ({"trainable_backbone_layers": 6}, "model.trainable_backbone_layers"),
        ({"rpn_positive_fraction": 1.5}, "a number from 0 to 1"),
        ({"box_batch_size_per_image": 0}, "a whole number of at least 1"),
        ({"box_bg_iou_thresh": 0.6}, "must be at most model.box_fg_iou_thresh, 0.5, not 0.6"),
    ],
)
def test_keywords_of_training_have_ranges_in_training_alone(
    options: dict[str, Any], words: str
) -> None:
    checked = checked_options(options)
    with pytest.raises(UsageError, match=words):
        check_training(checked)
