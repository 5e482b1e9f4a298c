"""Weights without training, of a trained network's magnitudes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.bench import mix, standin
from pipeline.network.build import build

SMALL = {"min_size": 64, "max_size": 128, "rpn_post_nms_top_n_test": 40}


def test_standin_weights_are_calibrated_and_a_seed_decides_them() -> None:
    options = {**SMALL, "rpn_post_nms_top_n_test": 100}
    weights = standin.weights(options)
    assert weights.sha256 == standin.weights(options).sha256
    assert weights.sha256 != standin.weights(SMALL, seed=1).sha256
    model = build(weights.state, weights.options)
    pixels = mix.picture(640, 480, np.random.default_rng(5))
    passed: list[torch.Tensor] = []
    model.roi_heads.box_predictor.cls_score.register_forward_hook(
        lambda module, given, logits: passed.append(logits)
    )
    with torch.inference_mode():
        (found,) = model([torch.tensor(pixels).permute(2, 0, 1) / 255])
    candidates = int((passed[0].softmax(-1)[:, 1:] > 0.05).sum())
    assert standin.CANDIDATES / 3 < candidates < standin.CANDIDATES * 3
    assert 5 < len(found["boxes"]) <= 100
    assert passed[0][:, 1:].std() == pytest.approx(3, rel=0.5)
