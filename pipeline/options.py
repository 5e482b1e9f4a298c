"""The keywords of the network that a text file can express, and what each may be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.errors import UsageError, nearest

# of what a tensor can count
MOST = 2**63 - 1
# as people write them, of which YAML 1.1 makes text: `1e-3`, `1e6`, `1.5e3`
WRITTEN = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


class Number(NamedTuple):
    """What a field that is a number may be.

    Attributes:
        whole: whether it has no fraction.
        fits: whether a number may be it.
        told: in words, for a complaint.
    """

    whole: bool
    fits: Callable[[float], bool]
    told: str


COUNTED = Number(True, lambda number: number > 0, "a whole number above 0")
POSITIVE = Number(False, lambda number: number > 0, "a number above 0")


class Range(NamedTuple):
    """What a keyword may be.

    Attributes:
        kind: bool, str, int or float.
        least: of numbers.
        most: likewise.
        length: how many of them it takes as a list; 0 where it is none.
    """

    kind: type
    least: float = -math.inf
    most: float = math.inf
    length: int = 0

    def __str__(self) -> str:
        if self.kind in (bool, str):
            return "true or false" if self.kind is bool else "text"
        noun = "whole number" if self.kind is int else "number"
        noun = f"a list of {self.length} {noun}s" if self.length else f"a {noun}"
        if math.isinf(self.least):
            return noun if self.kind is int else noun.replace("number", "finite number")
        if self.most == MOST:
            return f"{noun} of at least {self.least:g}"
        return f"{noun} from {_shown(self.least)} to {_shown(self.most)}"

    def holds(self, value: Any) -> bool:
        """Whether it may be this."""
        if self.length:
            numbers = isinstance(value, list | tuple) and len(value) == self.length
            return numbers and all(self._replace(length=0).holds(one) for one in value)
        if self.kind in (bool, str):
            return isinstance(value, self.kind)
        if not is_number(value, whole=self.kind is int) or value in (math.inf, -math.inf):
            return False
        return bool(self.least <= value <= self.most)


THRESHOLD = Range(float, 0, 1)
COUNT = Range(int, 1, MOST)
# below it a tile shows the network next to nothing; its overlap, up to where they can be counted
TILE, TILE_OVERLAP = Range(int, 32, MOST), Range(float, 0, 0.9)
# float32 divides by them, and multiplies
FACTOR = (1e-6, 1e6)
# of training alone: what a training holds them to; a run has no use for their values, and takes any
TRAINING_OPTIONS: dict[str, Range] = {
    "trainable_backbone_layers": Range(int, 0, 5),
    **dict.fromkeys(
        "rpn_pre_nms_top_n_train rpn_post_nms_top_n_train rpn_batch_size_per_image "
        "box_batch_size_per_image".split(),
        COUNT,
    ),
    **dict.fromkeys(
        "rpn_fg_iou_thresh rpn_bg_iou_thresh rpn_positive_fraction box_fg_iou_thresh "
        "box_bg_iou_thresh box_positive_fraction".split(),
        THRESHOLD,
    ),
}
# The keywords of torchvision's `fasterrcnn_resnet50_fpn_v2` and of its `FasterRCNN`, but for those
# that take a module (an anchor generator, a RoI pooler, a head).
MODEL_OPTIONS: dict[str, Range] = {
    "progress": Range(bool),
    "num_classes": Range(int, 2, 65_536),  # the background is one
    "min_size": COUNT,
    "max_size": COUNT,
    "size_divisible": Range(int, 1, 65_536),
    "fixed_size": Range(int, 1, 65_536, length=2),
    "image_mean": Range(float, -1e6, 1e6, length=3),
    "image_std": Range(float, *FACTOR, length=3),
    "rpn_pre_nms_top_n_test": COUNT,
    "rpn_post_nms_top_n_test": COUNT,
    "rpn_nms_thresh": THRESHOLD,
    "rpn_score_thresh": THRESHOLD,
    "box_score_thresh": THRESHOLD,
    "box_nms_thresh": THRESHOLD,
    "box_detections_per_img": COUNT,
    "bbox_reg_weights": Range(float, *FACTOR, length=4),
    "weights_backbone": Range(str),
    **{name: Range(wanted.kind) for name, wanted in TRAINING_OPTIONS.items()},
}
# what decides which boxes a trained network finds, and goes along with its checkpoint
INFERENCE_OPTIONS = [
    name
    for name in MODEL_OPTIONS
    if name not in (*TRAINING_OPTIONS, "progress", "num_classes", "weights_backbone")
]
# short names of some of them, which `Config` takes and the command has flags for
SHORT = {
    "score_threshold": "box_score_thresh",
    "max_detections": "box_detections_per_img",
    "min_size": "min_size",
}
FLAGS = {keyword: f"--{name.replace('_', '-')}" for name, keyword in SHORT.items()}


def is_number(value: Any, whole: bool) -> bool:
    """Whether it is a number, which NaN and truth values are not; infinity is one.

    Args:
        value: anything.
        whole: whether a fraction is none.
    """
    kinds = int if whole else int | float
    return isinstance(value, kinds) and not isinstance(value, bool) and value == value


def as_number(value: Any, whole: bool) -> Any:
    """The number that a text is, a whole number for a float that is one, all else as it is.

    Args:
        value: anything.
        whole: whether a whole number is wanted.

    >>> as_number("1e6", whole=True), as_number("1e-3", whole=False), as_number("many", whole=True)
    (1000000, 0.001, 'many')
    """
    if isinstance(value, str) and WRITTEN.fullmatch(value):
        value = float(value) if re.search(r"[.eE]", value) else int(value)
    return int(value) if whole and isinstance(value, float) and value.is_integer() else value


def check_numbers(described: Any, fields: Mapping[str, Number]) -> None:
    """Hold fields of a frozen dataclass to what they may be; numbers written as text become such.

    Raises:
        UsageError: one is none of these, nor None where that is its default.
    """
    for name, wanted in fields.items():
        value = as_number(getattr(described, name), wanted.whole)
        is_left = value is None and getattr(type(described), name) is None
        if not is_left and not (is_number(value, wanted.whole) and wanted.fits(value)):
            raise UsageError(f"{name} must be {wanted.told}, not {value!r}")
        object.__setattr__(described, name, value)


def check_choices(described: Any, fields: Mapping[str, Sequence[str]]) -> None:
    """
    Raises:
        UsageError: a field is none of the texts that it may be.
    """
    for name, choices in fields.items():
        if getattr(described, name) not in choices:
            listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
            raise UsageError(f"{name} must be {listed}, not {getattr(described, name)!r}")


def checked_depth_range(value: Any) -> tuple[int, ...] | str | None:
    """`Config.depth_range` as two numbers, `auto` or None.

    Raises:
        UsageError: it is none of these.
    """
    found = "auto" if value in (["auto"], ("auto",)) else _numbers(value)
    if found in (None, "auto"):
        return found
    if not isinstance(found, tuple) or len(found) != 2 or not 0 <= found[0] < found[1] < 2**16:
        raise UsageError(
            "depth_range must be auto, or two whole numbers within 0 and 65535, the smaller one "
            f"first, not {_as_given(value)}"
        )
    return found


def checked_bands(value: Any) -> tuple[int, ...] | None:
    """`Config.bands` as one or three numbers, or None.

    Raises:
        UsageError: it is none of these.
    """
    found = _numbers(value)
    if found is None:
        return None
    if not isinstance(found, tuple) or len(found) not in (1, 3) or not all(n > 0 for n in found):
        raise UsageError(
            f"bands must be three whole numbers above 0, or one, not {_as_given(value)}"
        )
    return found


def _as_given(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else repr(value)


def _numbers(value: Any) -> Any:
    """The whole numbers of a list or of a text, divided by blanks or commas; all else as it is.

    >>> _numbers("4,3 2"), _numbers(["0", "4095"]), _numbers(1), _numbers("auto")
    ((4, 3, 2), (0, 4095), (1,), 'auto')
    """
    several = value if isinstance(value, list | tuple) else [value]
    parts = [x.replace(",", " ").split() if isinstance(x, str) else [x] for x in several]
    found = tuple(as_number(number, whole=True) for part in parts for number in part)
    return found if all(is_number(number, whole=True) for number in found) else value


def checked_options(options: Any) -> dict[str, Any]:
    """Keywords of the network, with numbers where they were written as text.

    Raises:
        UsageError: one that does not exist, or that may not be what it is.
    """
    if not isinstance(options, Mapping):
        raise UsageError(f"model must hold names and values, not {options!r}")
    found = {}
    for name, value in options.items():
        if name not in MODEL_OPTIONS:
            raise UsageError(f"model has an unknown key {nearest(str(name), MODEL_OPTIONS)}")
        found[name] = _checked(name, value, MODEL_OPTIONS[name])
    least, most = found.get("min_size"), found.get("max_size")
    if least and most and most < least:
        raise UsageError(f"model.max_size must be at least model.min_size, {least}, not {most}")
    return found


def check_training(options: Mapping[str, Any]) -> None:
    """Hold those of training to their own ranges.

    Args:
        options: as from `checked_options`.

    Raises:
        UsageError: one is outside of its range, or the least IoU of an object below the most of
            background.
    """
    for name in options.keys() & TRAINING_OPTIONS.keys():
        _checked(name, options[name], TRAINING_OPTIONS[name])
    for part, object_iou, background_iou in (("rpn", 0.7, 0.3), ("box", 0.5, 0.5)):
        least = options.get(f"{part}_fg_iou_thresh", object_iou)
        most = options.get(f"{part}_bg_iou_thresh", background_iou)
        if most > least:
            raise UsageError(
                f"model.{part}_bg_iou_thresh must be at most model.{part}_fg_iou_thresh, "
                f"{least:g}, not {most:g}"
            )


def _checked(name: str, value: Any, wanted: Range) -> Any:
    if wanted.kind in (int, float):
        whole = wanted.kind is int
        if wanted.length and isinstance(value, list | tuple):
            numbers = [as_number(one, whole) for one in value]
            value = numbers if isinstance(value, list) else tuple(numbers)
        else:
            value = as_number(value, whole)
    if not wanted.holds(value):
        flag = f" ({FLAGS[name]})" if name in FLAGS else ""
        also = ""
        if wanted.most == MOST and is_number(value, whole=True) and value > MOST:
            also = " and at most 2**63 - 1"
        raise UsageError(f"model.{name}{flag} must be {wanted}{also}, not {value!r}")
    return value


def _shown(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"
