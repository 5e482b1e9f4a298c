"""What is computed once an image gives the detections of torchvision's own forward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks import loop_head
from benchmarks.loop_rules import farthest
from pipeline.config import Config
from pipeline.labels.truth import Truth
from pipeline.network.build import build
from pipeline.network.weights import resolve
from pipeline.store import objects
from pipeline.training import pixels

SMALL = {"min_size": 128, "max_size": 192, "num_classes": 3, "rpn_post_nms_top_n_test": 50}


def test_detections_are_those_of_a_forward(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).integers(0, 255, (150, 200, 3), np.uint8)
    Image.fromarray(drawn).save(tmp_path / "a.png")
    options = SMALL | {"box_score_thresh": 0.3}
    config = Config(input=str(tmp_path), output="none", weights="random:0", model=options)
    weights = resolve(config, objects.read)
    model = build(weights.state, weights.options)
    truth = Truth("", [1], ["a.png"], {"disc": 7, "bar": 4})
    truth.image_places, truth.box_categories = np.array([0, 0]), np.array([4, 7])
    truth.xywh = np.array([[10.0, 20, 60, 50], [90, 30, 80, 100]])
    truth.areas, truth.crowds = np.array([3000.0, 8000]), np.zeros(2, bool)
    image = pixels.Image(f"{tmp_path}/a.png")
    (frozen,) = loop_head.freeze(model, config, truth, [image], ["disc", "bar"])
    found = loop_head.detect(model, model.roi_heads.box_predictor, frozen)
    with torch.inference_mode():
        (expected,) = model([torch.tensor(drawn).permute(2, 0, 1).float() / 255])
    assert len(found.scores) > 0
    np.testing.assert_allclose(found.xyxy, expected["boxes"], atol=1e-3)
    np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-6)
    np.testing.assert_array_equal(found.labels, expected["labels"])
    own = found.probabilities[np.arange(len(found.labels)), found.labels]
    np.testing.assert_array_equal(own, found.scores)
    assert frozen.classes.tolist() == [1, 0]
    # an annotated box is among the proposals, and is its own partner
    assert frozen.labels[frozen.own :].tolist() == [2, 1]
    np.testing.assert_allclose(frozen.targets[frozen.own :], 0, atol=1e-5)


def test_k_centre_takes_what_is_far_from_all_that_is_known() -> None:
    line = np.array([[0.0], [1], [5], [9], [10]])
    assert farthest(line, np.array([[0.0]]), 3) == [4, 2, 1]
