"""Images that need no look, set apart from the others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.ops import nms

from tests.support import outputs, redone, reviews, synthetic
from tests.support.exports import LABELS, names_of, run

# none of a bicycle; synthetic scores lie anywhere between 0.06 and 1
THRESHOLDS = {"person": 0.3, "car": 0.4, "dog": 0.2, "cup": 0.2, "bicycle": None}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = synthetic.write(tmp_path_factory.mktemp("accept") / "out", 120, 3, 50)
    reviews.calibration(output.parent / "calibration.json", THRESHOLDS)
    return output


def single(detections: list[dict[str, Any]], iou: float) -> list[dict[str, Any]]:
    """Without those that overlap a kept one of a higher score by more."""
    corners = [[box[name] for name in ("xmin", "ymin", "xmax", "ymax")] for box in detections]
    scores = [box["score"] for box in detections]
    kept = nms(torch.tensor(corners).reshape(-1, 4), torch.tensor(scores), iou)
    return [detections[place] for place in kept.tolist()]


def divided(
    output: Path,
    score_threshold: float,
    iou: float | None = None,
    thresholds: Mapping[str, float | None] = THRESHOLDS,
) -> dict[str, set[str]]:
    """The images that should be in each folder."""
    found: dict[str, set[str]] = {"accepted": set(), "review": set()}
    for row in outputs.rows(str(output)):
        if row["status"] == "ok":
            kept = [box for box in row["detections"] if box["score"] >= score_threshold]
            kept = kept if iou is None else single(kept, iou)
            sure = [
                (limit := thresholds[box["label"]]) is not None and box["score"] >= limit
                for box in kept
            ]
            found["accepted" if kept and all(sure) else "review"].add(row["image_uri"])
    return found


@pytest.mark.parametrize("kind", LABELS)
def test_two_complete_exports(
    output: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--accept", str(output.parent / "calibration.json"), "--score-threshold", "0.25"]
    assert run(output, tmp_path / "to", *flags, format=kind) == 0
    expected = divided(output, 0.25)
    assert min(map(len, expected.values())) > 20
    for name, uris in expected.items():
        assert set(names_of(tmp_path / "to" / name)) == uris
    counts = json.loads((tmp_path / "to/export.json").read_text())["counts"]
    assert counts["images_accepted"] == len(expected["accepted"])
    assert counts["images"] == sum(map(len, expected.values()))
    said = f"accepted: {counts['images_accepted']:,} images with {counts['boxes_accepted']:,} boxes"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    "threshold,said",
    [
        (None, "0 images; the calibration accepts no box of 'person', 'car', 'dog', 'cup', "),
        (1.0, "0 images; each has a box below the threshold of its category, or none at all"),
    ],
)
def test_nothing_is_accepted(
    output: Path,
    tmp_path: Path,
    threshold: float | None,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reviews.calibration(tmp_path / "calibration.json", dict.fromkeys(THRESHOLDS, threshold))
    flags = ["--accept", str(tmp_path / "calibration.json")]
    assert run(output, tmp_path / "to", *flags, format="coco") == 0
    assert f"accepted: {said}" in capsys.readouterr().out


def test_doubles_decide_nothing(tmp_path: Path) -> None:
    output = synthetic.write(tmp_path / "out", 200, 30)
    reviews.calibration(tmp_path / "calibration.json", dict.fromkeys(THRESHOLDS, 0.6))
    flags = ["--accept", str(tmp_path / "calibration.json"), "--score-threshold", "0.5"]
    assert run(output, tmp_path / "to", *flags, "--agnostic-nms", "0.05") == 0
    sure = dict.fromkeys(THRESHOLDS, 0.6)
    expected = divided(output, 0.5, 0.05, sure)
    assert expected["accepted"] > divided(output, 0.5, None, sure)["accepted"]
    for name, uris in expected.items():
        assert set(names_of(tmp_path / "to" / name)) == uris


def test_boxes_that_are_left_out_decide_nothing(output: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("[person, car]")
    flags = ["--accept", str(output.parent / "calibration.json"), "--score-threshold", "0.5"]
    assert run(output, tmp_path / "to", *flags, "--classes", str(tmp_path / "classes.yaml")) == 0
    review = names_of(tmp_path / "to" / "review")
    for row in outputs.rows(str(output)):
        if row["status"] == "ok":
            kept: list[Any] = [
                box
                for box in row["detections"]
                if box["score"] >= 0.5 and box["label"] in ("person", "car")
            ]
            assert (row["image_uri"] in review) == (not kept)


def test_images_that_were_refreshed_since_are_not_accepted(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what was there could be drawn for the calibration."""
    one = synthetic.write(tmp_path / "one", 120, 3)
    now, given = redone.redo(one, tmp_path / "out", range(60)), output.parent / "calibration.json"
    content = json.loads(given.read_text())
    assert content["attempt"] is None  # as of earlier versions
    for attempt, anew in ((None, 0), (1, 60), (2, 0)):
        (tmp_path / "c.json").write_text(json.dumps(content | {"attempt": attempt}))
        assert run(now, tmp_path / f"to{attempt}", "--accept", str(tmp_path / "c.json")) == 0
        printed = capsys.readouterr().out
        assert ("60 images that the run has processed after" in printed) is bool(anew)
        accepted, expected = names_of(tmp_path / f"to{attempt}/accepted"), divided(now, 0)
        assert accepted and set(accepted) == {
            uri for uri in expected["accepted"] if int(uri.split("/")[-1][:8]) >= anew
        }


def test_a_calibration_of_another_run(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((output.parent / "calibration.json").read_text())
    (tmp_path / "c.json").write_text(json.dumps(content | {"run_id": "8" * 32}))
    assert run(output, tmp_path / "to", "--accept", str(tmp_path / "c.json")) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "was made from another run (888888888888) than" in printed
    assert not (tmp_path / "to").exists()
