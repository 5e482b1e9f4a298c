"""What is said before a run."""

from __future__ import annotations

import logging

import pytest

from pipeline.cluster.placement import Placement
from pipeline.config import Config
from pipeline.driver.summary import preview
from pipeline.network.weights import resolve
from pipeline.outputs.manifest import Manifest
from pipeline.store import objects
from tests.support.runs import SMALL


@pytest.mark.parametrize("classes,unnamed", [(4, 3), (91, 0)])
def test_classes_without_names(
    classes: int, unnamed: int, caplog: pytest.LogCaptureFixture
) -> None:
    model = {**SMALL, "num_classes": classes}
    config = Config(input="/in", output="/out", weights="random:0", model=model)
    caplog.set_level(logging.INFO)
    placement = Placement("cpu", 1, 0, 1, 0, 1, 1, 1, 1)
    preview(config, resolve(config, objects.read), placement, Manifest(1, 0, []))
    told = f"classes   {unnamed} without names (class_1 ...); --categories names them"
    assert (told in caplog.messages) == bool(unnamed)
