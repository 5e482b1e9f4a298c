"""The classes of a network to be, and the rows that it begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.network.checkpoints import CLASSIFIER
from pipeline.network.contract import Weights
from pipeline.training.recipe import Recipe
from pipeline.training.start import REGRESSOR, Start, start


def begun(shown: list[str], recipe: Recipe | None = None, **options: Any) -> Start:
    return start(Config(input="in", output="out", **options), recipe or Recipe(), shown)


@pytest.fixture
def named(tmp_path: Path) -> str:
    """Names of the stand-in's 90 classes."""
    (tmp_path / "names.txt").write_text("\n".join(f"n{i}" for i in range(1, 91)))
    return str(tmp_path / "names.txt")


def test_new_classes_get_rows_behind_the_known_ones(
    calibrated: Weights, calibrated_file: str, named: str
) -> None:
    found = begun(["disc", "N7"], weights=calibrated_file, categories=named)
    assert found.new == ["disc"] and found.categories[7] == "n7" and found.categories[91] == "disc"
    assert found.options["num_classes"] == 92 and found.trained_layers == 3
    for name, rows in ((CLASSIFIER, 91), (REGRESSOR, 4 * 91)):
        assert np.array_equal(found.state[name][:rows], calibrated.state[name])
        assert np.abs(found.state[name][rows:]).max() > 0
    assert found.state[REGRESSOR].shape == (4 * 92, 1024)
    assert calibrated.state[CLASSIFIER].shape[0] == 91


def test_known_classes_alone_change_nothing(
    calibrated: Weights, calibrated_file: str, named: str
) -> None:
    found = begun(["n3"], weights=calibrated_file, categories=named)
    assert found.new == [] and found.state[CLASSIFIER] is not None
    assert all(np.array_equal(found.state[k], v) for k, v in calibrated.state.items())


def test_a_new_predictor_forgets_the_old_classes(calibrated: Weights, calibrated_file: str) -> None:
    found = begun(["disc", "bar"], Recipe(new_predictor=True), weights=calibrated_file)
    assert found.categories == {1: "disc", 2: "bar"} and found.new == ["disc", "bar"]
    assert found.state[CLASSIFIER].shape == (3, 1024)
    assert not np.array_equal(found.state[CLASSIFIER], calibrated.state[CLASSIFIER][:3])


def test_a_file_fixes_ids_also_of_classes_that_nothing_shows_yet(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("bar\nrod\ndisc\n")
    found = begun(["disc", "cup"], weights="random:0", categories=f"{tmp_path}/names.txt")
    assert found.categories == {1: "bar", 2: "rod", 3: "disc", 4: "cup"}
    assert found.state[CLASSIFIER].shape == (5, 1024) and found.trained_layers == 5


def test_weights_without_names(calibrated_file: str) -> None:
    with pytest.raises(UsageError, match="name them with --categories, or .* --new-predictor"):
        begun(["disc"], weights=calibrated_file)


@pytest.mark.parametrize(
    "weights,model,words",
    [
        ("random:0", {"num_classes": 5}, "model.num_classes is 5, but there are 1 classes"),
        ("random:0", {"trainable_backbone_layers": 2}, "must be trained as a whole"),
        ("COCO_V1", {"weights_backbone": "IMAGENET1K_V1"}, "model.weights_backbone has no use"),
    ],
)
def test_options_that_contradict(weights: str, model: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        begun(["disc"], weights=weights, model=model)
