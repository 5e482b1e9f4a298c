"""Each keyword of the network at the ends of its range, and beyond them in one clear line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from jobs import detect
from pipeline.config import Config, from_yaml
from pipeline.errors import UsageError
from pipeline.options import FLAGS, MODEL_OPTIONS, MOST, SHORT, Range

NAN, INF = math.nan, math.inf
THRESHOLDS = "rpn_nms_thresh rpn_score_thresh box_score_thresh box_nms_thresh".split()
COUNTS = (
    "min_size max_size rpn_pre_nms_top_n_test rpn_post_nms_top_n_test box_detections_per_img"
).split()
TRAINING = [name for name, wanted in MODEL_OPTIONS.items() if wanted in (Range(int), Range(float))]
# no number of any keyword
NO_NUMBERS: list[Any] = [True, False, None, NAN, "big", "nan", "inf", "", [], [1], {}, b"1", 1j]


def configured(**model: Any) -> Config:
    return Config(input="in", output="out", model=model)


def told(**model: Any) -> str:
    """The line that refuses these keywords."""
    with pytest.raises(UsageError) as refused:
        configured(**model)
    assert "\n" not in str(refused.value)
    return str(refused.value)


GOOD: list[tuple[str, list[Any]]] = [
    *((name, [0, 1, 0.0, 1.0, 0.5]) for name in THRESHOLDS),
    *((name, [1, 800, MOST]) for name in COUNTS),
    *((name, [-1, 0, 7]) for name in TRAINING),
    ("progress", [True, False]),
    ("weights_backbone", ["IMAGENET1K_V1", "anything"]),
    ("num_classes", [2, 91, 65_536]),
    ("size_divisible", [1, 2, 32, 64]),
    ("fixed_size", [[1, 1], (640, 480)]),
    ("image_mean", [[0, 0, 0], [0.5, 0.5, 0.5], (103.5, -116.3, 123.7)]),
    ("image_std", [[1, 1, 1], [0.229, 0.224, 0.225], (1e-6, 1e6, 255)]),
    ("bbox_reg_weights", [[10, 10, 5, 5], (1.0, 1.0, 0.5, 0.5)]),
]
BAD: list[tuple[str, list[Any], str]] = [
    *((name, [-0.1, 1.1, 50, -INF, INF], "a number from 0 to 1") for name in THRESHOLDS),
    *((name, [0, -3, 1.5, INF, "0"], "a whole number of at least 1") for name in COUNTS),
    ("num_classes", [-1, 0, 1, 2.5, 65_537, 10**30], "a whole number from 2 to 65,536"),
    ("size_divisible", [0, -32, 0.5, 10**9], "a whole number from 1 to 65,536"),
    (
        "fixed_size",
        [640, [640], [640, 480, 3], [0, 480], [640, -1], [640.5, 480], [True, 480], "640x480"],
        "a list of 2 whole numbers from 1 to 65,536",
    ),
    (
        "image_mean",
        [0.5, [0.5, 0.5], [0.5] * 4, [NAN, 0, 0], [INF, 0, 0], [True, 0, 0], "0.5 0.5 0.5"],
        "a list of 3 numbers from -1e+06 to 1e+06",
    ),
    (
        "image_std",
        [1, [1, 1], [0, 1, 1], [1, 1, -0.2], [1, 1, NAN], [1e-300, 1, 1], [False, 1, 1]],
        "a list of 3 numbers from 1e-06 to 1e+06",
    ),
    (
        "bbox_reg_weights",
        [10, [10, 10, 5], [10, 10, 5, 5, 5], [10, 10, 0, 5], [10, 10, 5, -5], [10, 10, 5, "x"]],
        "a list of 4 numbers from 1e-06 to 1e+06",
    ),
    ("progress", [1, 0, "yes", None], "true or false"),
    ("weights_backbone", [1, True, ["x"], None], "text"),
]


def test_each_keyword_is_tried() -> None:
    assert {name for name, _ in GOOD} == set(MODEL_OPTIONS)
    assert {name for name, *_ in BAD} == set(MODEL_OPTIONS) - set(TRAINING)


@pytest.mark.parametrize("name,values", GOOD)
def test_taken(name: str, values: list[Any]) -> None:
    for value in values:
        found = configured(**{name: value}).model[name]
        assert found == value and type(found) is type(value)


@pytest.mark.parametrize("name,values,wanted", BAD)
def test_refused(name: str, values: list[Any], wanted: str) -> None:
    flag = f" ({FLAGS[name]})" if name in FLAGS else ""
    for value in values:
        shown = 0 if value == "0" else value
        assert told(**{name: value}) == f"model.{name}{flag} must be {wanted}, not {shown!r}"


@pytest.mark.parametrize("name", [n for n, r in MODEL_OPTIONS.items() if r.kind in (int, float)])
def test_what_is_no_number(name: str) -> None:
    for value in NO_NUMBERS:
        assert f"model.{name}" in (line := told(**{name: value})) and repr(value) in line
        length = MODEL_OPTIONS[name].length
        if length:
            assert "must be a list of" in told(**{name: [value] * length})


@pytest.mark.parametrize("name", TRAINING)
def test_in_training_only(name: str) -> None:
    """Whatever they are, a run is the same; they must only be of their kind."""
    whole = MODEL_OPTIONS[name].kind is int
    kind = "a whole number" if whole else "a finite number"
    for value in (0.5 if whole else INF, True, "x"):
        assert told(**{name: value}) == f"model.{name} must be {kind}, not {value!r}"


def test_more_than_can_be_counted() -> None:
    assert "of at least 1 and at most 2**63 - 1, not 1" in told(max_size=10**400)


def test_a_long_side_below_the_short_one() -> None:
    assert told(min_size=800, max_size=600) == (
        "model.max_size must be at least model.min_size, 800, not 600"
    )
    assert configured(min_size=800, max_size=800).model["max_size"] == 800
    # torchvision's own for the other one was always taken
    assert configured(min_size=1500) and configured(max_size=600)


def test_no_mapping() -> None:
    with pytest.raises(UsageError, match="model must hold names and values, not 5"):
        Config(input="in", output="out", model=5)  # type: ignore[arg-type]


def test_as_people_write_them(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "input: in\noutput: out\nmodel:\n  box_score_thresh: 1e-3\n  max_size: 1e6\n"
        "  min_size: 8.0e+2\n  image_std: [2e-1, 2e-1, 0.2]\n  fixed_size: [6.4e2, 4.8E2]\n"
        "  box_nms_thresh: '0.5'\n  weights_backbone: 1e3\n  rpn_nms_thresh: 0\n"
    )
    model = Config(**from_yaml(str(tmp_path / "run.yaml"))).model
    assert model == {
        "box_score_thresh": 0.001,
        "max_size": 1_000_000,
        "min_size": 800,
        "image_std": [0.2, 0.2, 0.2],
        "fixed_size": [640, 480],
        "box_nms_thresh": 0.5,
        "weights_backbone": "1e3",
        "rpn_nms_thresh": 0,
    }
    assert all(type(value) is int for value in (model["max_size"], *model["fixed_size"]))
    assert type(model["rpn_nms_thresh"]) is int  # as it stands in runs that are there


@pytest.mark.parametrize(
    "flags,complaint",
    [
        ("--score-threshold 50", "(--score-threshold) must be a number from 0 to 1, not 50.0"),
        ("--score-threshold nan", "(--score-threshold) must be a number from 0 to 1, not nan"),
        ("--max-detections 0", "(--max-detections) must be a whole number of at least 1, not 0"),
        ("--min-size -3", "(--min-size) must be a whole number of at least 1, not -3"),
    ],
)
def test_flags(flags: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect.main(["--input", "in", "--output", "out", *flags.split()]) == 2
    out, err = capsys.readouterr()
    assert complaint in err and err.count("\n") == 1 and out == ""


def test_flags_are_those_of_the_command() -> None:
    known = {a.dest: a.option_strings for a in detect.parser()._actions}
    assert all(known[name] == [FLAGS[keyword]] for name, keyword in SHORT.items())
