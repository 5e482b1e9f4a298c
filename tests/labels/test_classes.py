"""Which detections are kept, and what their classes are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.classes import choose, parse_assignments

CATEGORIES = {1: "person", 3: "car", 8: "truck", 44: "cup"}


def boxes(labels: list[int], scores: list[float]) -> BoxBatch:
    """Two images: the first has all but the last detection."""
    n = len(labels)
    return BoxBatch(
        ids=np.array([5, 9]),
        uris=["a", "b"],
        sizes=np.array([[10, 10], [20, 20]]),
        starts=np.array([0, n - 1, n]),
        labels=np.array(labels),
        scores=np.array(scores, np.float32),
        xyxy=np.arange(4 * n, dtype=np.float32).reshape(n, 4),
    )


def test_everything_is_kept() -> None:
    chosen = choose(CATEGORIES)
    assert chosen.names == ["person", "car", "truck", "cup"] and chosen.ids == [1, 3, 8, 44]
    kept = chosen.choose(boxes([44, 1, 3], [0.9, 0.5, 0.1]))
    assert kept.labels.tolist() == [3, 0, 1] and kept.starts.tolist() == [0, 2, 3]


def test_thresholds() -> None:
    chosen = choose(CATEGORIES, 0.5, {"person": 0.6, "cup": 0.05})
    kept = chosen.choose(boxes([1, 3, 1, 3, 44, 44, 1], [0.6, 0.5, 0.59, 0.49, 0.05, 0.04, 0.9]))
    assert kept.labels.tolist() == [0, 1, 3, 0]
    assert kept.xyxy[:, 0].tolist() == [0, 4, 16, 24]
    assert kept.starts.tolist() == [0, 3, 4]


def test_selection_renaming_and_merging(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text("truck: vehicle\ncar: vehicle\nperson:\n")
    chosen = choose(CATEGORIES, 0.1, {"vehicle": 0.4, "person": 0.3}, str(path))
    assert chosen.names == ["vehicle", "person"] and chosen.ids == [3, 1]
    kept = chosen.choose(boxes([3, 8, 1, 44, 8, 1], [0.9, 0.5, 0.3, 0.9, 0.39, 0.29]))
    assert kept.labels.tolist() == [0, 0, 1]
    path.write_text("- cup\n- car\n")
    assert choose(CATEGORIES, mapping=str(path)).names == ["cup", "car"]
    path.write_text("\ufeff# a name a line\ncup\n\ntruck\n")
    assert choose(CATEGORIES, mapping=str(path)).names == ["cup", "truck"]


def test_labels_outside_of_the_classes_are_left_out() -> None:
    assert choose(CATEGORIES).choose(boxes([2, 91, 1], [1, 1, 1])).labels.tolist() == [0]


@pytest.mark.parametrize(
    "yaml,complaint",
    [
        ("- persn\n", "did you mean 'person'"),
        ("cat\nox\n", "unknown name 'cat' .did you mean 'car'"),
        ("ox\n", "unknown name 'ox' .known are 'car', 'cup', 'person', 'truck'"),
        ("person: 3\n", "the new name of 'person' must be text"),
        ("person: ' '\n", "the new name of 'person' must be text"),
        ("- car: vehicle\n", "unknown name"),
        ("[]\n", "keeps no class"),
        ("3\n", "must hold a list of names"),
        ("", "must hold a list of names"),
        ("a: [\n", "cannot read --classes"),
    ],
)
def test_a_mapping_that_makes_no_sense(tmp_path: Path, yaml: str, complaint: str) -> None:
    (tmp_path / "classes.yaml").write_text(yaml)
    with pytest.raises(UsageError, match=complaint):
        choose(CATEGORIES, mapping=str(tmp_path / "classes.yaml"))


def test_thresholds_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="--score-threshold must be within 0 and 1"):
        choose(CATEGORIES, 1.5)
    with pytest.raises(UsageError, match="did you mean 'truck'"):
        choose(CATEGORIES, thresholds={"trucks": 0.5})
    with pytest.raises(UsageError, match="--category car must be within"):
        choose(CATEGORIES, thresholds={"car": float("nan")})
    for word in ("person", "=0.5", "person=high"):
        with pytest.raises(UsageError, match="--category NAME=SCORE is the form"):
            parse_assignments([word], "--category NAME=SCORE")
    assert parse_assignments(["a=b=0.5"], "") == {"a=b": 0.5}
