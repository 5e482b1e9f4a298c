"""The engine against torchvision's own `model([image])`, with the real network."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

from pipeline import Config
from pipeline.engine import Engine
from pipeline.model import Weights, resolve
from tests.conftest import SMALL

SHAPES = [(96, 128), (128, 96), (100, 100), (97, 131), (64, 250), (40, 300), (200, 133)]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return resolve(Config(input="in", output="out", weights="random:0", model=SMALL))


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def reference(pixels: np.ndarray) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **SMALL).eval()
    with torch.inference_mode():
        tensor = torch.from_numpy(pixels).permute(2, 0, 1) / 255
        found: dict[str, torch.Tensor] = model([tensor])[0]
    return found


@pytest.mark.parametrize("height,width", SHAPES)
def test_boxes_are_torchvisions(weights: Weights, height: int, width: int) -> None:
    pixels = image(height, width)
    (ours,), theirs = Engine(weights, "cpu", 2)([pixels]), reference(pixels)
    assert len(theirs["boxes"]) > 10
    np.testing.assert_array_equal(ours.labels, theirs["labels"].numpy())
    np.testing.assert_array_equal(ours.xyxy, theirs["boxes"].numpy())
    np.testing.assert_array_equal(ours.scores, theirs["scores"].numpy())


def test_a_micro_batch_changes_nothing(weights: Weights) -> None:
    engine = Engine(weights, "cpu", 2)
    images = [image(96, 128, seed) for seed in range(3)]
    for alone, together in zip(map(engine, ([i] for i in images)), engine(images), strict=True):
        np.testing.assert_array_equal(alone[0].labels, together.labels)
        # not bitwise: the size of a batch decides how its sums are split over threads, and
        # untrained weights amplify the rounding
        np.testing.assert_allclose(alone[0].xyxy, together.xyxy, atol=0.01)
        np.testing.assert_allclose(alone[0].scores, together.scores, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"min_size": 333}, {"fixed_size": [300, 200]},
                                     {"size_divisible": 64}])  # fmt: skip
def test_padded_shape_is_torchvisions(options: dict[str, object]) -> None:
    weights = resolve(Config(input="in", output="out", weights="random:0", model=options))
    engine = Engine(weights, "cpu", 2)
    generator = np.random.default_rng(0)
    shapes = [(int(h), int(w)) for h, w in generator.integers(1, 400, (40, 2))]
    # sides whose scaled length falls one short of min_size by rounding down
    shapes += [(side, side + 7) for side in range(1201, 1240)] + [(427, 640), (20, 3000)]
    for height, width in shapes:
        try:
            ours = engine.padded_shape(height, width)
        except ValueError:
            with pytest.raises(RuntimeError):
                engine.model.transform([torch.zeros(3, height, width)])
            continue
        batch, _ = engine.model.transform([torch.zeros(3, height, width)])
        assert ours == tuple(batch.tensors.shape[-2:]), (height, width)


def test_the_same_seed_is_the_same_network(weights: Weights) -> None:
    again = resolve(Config(input="in", output="out", weights="random:0", model=SMALL))
    other = resolve(Config(input="in", output="out", weights="random:1", model=SMALL))
    assert again.sha256 == weights.sha256 != other.sha256


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(weights: Weights) -> None:
    with pytest.raises(RuntimeError, match="torch sees none: .*or pass --device cpu"):
        Engine(weights, "cuda", 1)


def test_the_engine_needs_no_ray() -> None:
    code = "import sys; sys.modules['ray'] = None; import pipeline.engine, pipeline.decode"
    subprocess.run([sys.executable, "-c", code], check=True)
