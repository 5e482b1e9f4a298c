"""Every way to name weights and categories, and what is refused."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2 as builder
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from pipeline import Config, UsageError
from pipeline.config import MODEL_OPTIONS
from pipeline.network.build import build
from pipeline.network.contract import Weights
from pipeline.network.weights import resolve
from pipeline.store import objects
from tests.support.exploits import Exploit
from tests.support.runs import SMALL


def weights_of(path: object, **options: Any) -> Weights:
    return resolve(Config(input="in", output="out", weights=str(path), **options), objects.read)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return dict(builder(weights=None, weights_backbone=None, num_classes=4).state_dict())


@pytest.fixture(scope="module")
def checkpoint(state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "plain.pth"
    torch.save(state, path)
    return path


def test_plain_checkpoint(state: dict[str, torch.Tensor], checkpoint: Path) -> None:
    weights = weights_of(checkpoint)
    assert weights.options["num_classes"] == 4
    assert weights.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert weights.trained and weights.model_id.endswith("/plain.pth")
    model = build(weights.state, weights.options)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["reference", "module", "half", "safetensors", "url"])
def test_other_forms(
    kind: str, state: dict[str, torch.Tensor], checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    if kind == "reference":  # as torchvision's training script saves it
        torch.save(
            {"model": state, "epoch": 3, "args": argparse.Namespace(lr=0.1), "optimizer": {}}, path
        )
    elif kind == "module":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    elif kind == "half":
        torch.save({n: t.half() if t.is_floating_point() else t for n, t in state.items()}, path)
    elif kind == "safetensors":
        path = tmp_path / "weights.safetensors"
        safetensors.torch.save_file(state, path)
    weights = weights_of(checkpoint.as_uri() if kind == "url" else path)
    name = "roi_heads.box_predictor.cls_score.weight"
    tolerance = 1e-3 if kind == "half" else 0
    np.testing.assert_allclose(weights.state[name], state[name].numpy(), atol=tolerance)


def test_weights_on_s3(s3: Any, bucket: str, checkpoint: Path) -> None:
    s3.upload_file(str(checkpoint), bucket, "model.pth")
    assert weights_of(f"s3://{bucket}/model.pth").sha256 == weights_of(checkpoint).sha256


@pytest.mark.parametrize("save", [torch.save, lambda o, p: Path(p).write_bytes(pickle.dumps(o))])
def test_code_in_a_checkpoint_never_runs(save: Any, tmp_path: Path) -> None:
    save({"model": Exploit(tmp_path / "owned")}, tmp_path / "evil.pth")
    with pytest.raises(UsageError, match="could execute code"):
        weights_of(tmp_path / "evil.pth")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_what_is_no_number(state: dict[str, torch.Tensor], tmp_path: Path, value: float) -> None:
    """One among millions is enough: of it, every image would have no boxes, without a word."""
    path, name = tmp_path / "w.pth", "backbone.body.layer1.0.conv1.weight"
    broken = state[name].clone()
    broken[3, 2] = value
    torch.save({**state, name: broken}, path)
    with pytest.raises(UsageError, match=f"w.pth hold what is no finite number, first in {name};"):
        weights_of(path)


def test_what_does_not_fit(
    state: dict[str, torch.Tensor], checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    torch.save(fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict(), path)
    with pytest.raises(UsageError, match="do not fit fasterrcnn_resnet50_fpn_v2: .* is missing"):
        weights_of(path)
    torch.save({**state, "backbone.body.conv1.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(UsageError, match=r"shape \(64, 3, 3, 3\), not \(64, 3, 7, 7\)"):
        weights_of(path)
    torch.save({"fc.weight": torch.zeros(2)}, path)
    with pytest.raises(UsageError, match="are not of a fasterrcnn_resnet50_fpn_v2"):
        weights_of(path)
    path.write_bytes(checkpoint.read_bytes()[:100_000])
    with pytest.raises(UsageError, match="cannot be loaded"):
        weights_of(path)
    with pytest.raises(UsageError, match="does not exist"):
        weights_of(tmp_path / "absent.pth")
    with pytest.raises(UsageError, match=r"num_classes is 7, but .* have 4 classes"):
        weights_of(checkpoint, model={"num_classes": 7})
    with pytest.raises(UsageError, match="takes a whole number"):
        weights_of("random:x")


def test_coco_weights_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", lambda *a, **k: (_ for _ in ()).throw(OSError("offline"))
    )
    with pytest.raises(UsageError, match="cannot be downloaded.*pass --weights"):
        weights_of("DEFAULT")


def test_categories(checkpoint: Path, tmp_path: Path) -> None:
    text, coco = tmp_path / "names.txt", tmp_path / "names.json"
    text.write_text("WBC\nRBC\nPlatelets\n")
    coco.write_text(json.dumps({"categories": [{"id": 1, "name": "a"}, {"id": 3, "name": "c"}]}))
    found = weights_of(checkpoint, categories=str(text)).categories
    assert found == {1: "WBC", 2: "RBC", 3: "Platelets"}
    assert weights_of(checkpoint, categories=str(coco)).categories == {1: "a", 3: "c"}
    assert weights_of(checkpoint).categories == {}
    text.write_text("WBC\nRBC\n")
    with pytest.raises(UsageError, match="name 2 classes .* have 3 beside the background"):
        weights_of(checkpoint, categories=str(text))
    coco.write_text("{}")
    with pytest.raises(UsageError, match="cannot read categories"):
        weights_of(checkpoint, categories=str(coco))


def test_random_weights_are_called_untrained() -> None:
    weights = weights_of("random:3", model={"num_classes": 5, "progress": False})
    assert not weights.trained and weights.options["num_classes"] == 5
    assert weights_of("random:0").categories[1] == "person"


def test_the_same_seed_is_the_same_network() -> None:
    first, again, other = (weights_of(f"random:{n}", model=SMALL).sha256 for n in (0, 0, 1))
    assert first == again != other


def test_options_are_all_of_torchvisions() -> None:
    modules = {"backbone", "rpn_anchor_generator", "rpn_head"}
    modules |= {"box_roi_pool", "box_head", "box_predictor"}
    known: set[str] = set()
    for function in (builder, FasterRCNN.__init__, GeneralizedRCNNTransform.__init__):
        known |= set(inspect.signature(function).parameters)
    assert set(MODEL_OPTIONS) == known - modules - {"self", "kwargs", "weights"}


def test_options_reach_the_network(checkpoint: Path) -> None:
    options = {
        "min_size": 300,
        "box_score_thresh": 0.5,
        "rpn_nms_thresh": 0.6,
        "image_mean": [0.5, 0.5, 0.5],
    }
    weights = weights_of(checkpoint, model=options)
    model = build(weights.state, weights.options)
    assert model.transform.min_size == (300,) and model.transform.image_mean == [0.5, 0.5, 0.5]
    assert model.roi_heads.score_thresh == 0.5 and model.rpn.nms_thresh == 0.6
