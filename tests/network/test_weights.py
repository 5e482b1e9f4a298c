"""Every way to name weights, and what is refused."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torchvision.models.detection import (
    FasterRCNN,
    fasterrcnn_mobilenet_v3_large_fpn,
    fasterrcnn_resnet50_fpn,
    keypointrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2 as builder
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from jobs import detect
from pipeline import Config, UsageError
from pipeline.network.build import build
from pipeline.network.contract import Weights
from pipeline.network.weights import RELATIVES, resolve
from pipeline.options import MODEL_OPTIONS
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


def test_a_network_is_torchvisions(state: dict[str, torch.Tensor]) -> None:
    """And float32, whatever its arrays are."""
    options = {"num_classes": 4, **SMALL}
    halves = {n: t.half() if t.is_floating_point() else t for n, t in state.items()}
    expected = builder(weights=None, weights_backbone=None, **options).eval()
    expected.load_state_dict(halves)
    found = build({name: tensor.numpy() for name, tensor in halves.items()}, options)
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}
    pixels = torch.rand(3, 60, 80)
    with torch.inference_mode():
        (ours,), (theirs,) = found([pixels]), expected([pixels])
    assert len(theirs["boxes"]) > 10
    for name, values in theirs.items():
        torch.testing.assert_close(ours[name], values, rtol=0, atol=0)


def averaged(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As torch's own `AveragedModel` saves it."""
    model = builder(weights=None, weights_backbone=None, num_classes=4)
    model.load_state_dict(state)
    return dict(torch.optim.swa_utils.AveragedModel(model).state_dict())


# as torchvision's training script saves it, and others do; see test_checkpoints.py for all ways
FORMS: dict[str, Any] = {
    "reference": lambda s: {
        "model": s,
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, output_dir=Path("runs")),
        "optimizer": {},
    },
    "lightning": lambda s: {
        "state_dict": {
            f"model._orig_mod.{n}": torch.nn.Parameter(t, requires_grad=t.is_floating_point())
            for n, t in s.items()
        },
        "epoch": 3,
    },
    "averaged": lambda s: {"model_ema": averaged(s), "best": np.float64(0.5)},
    "no counters": lambda s: {n: t for n, t in s.items() if "num_batches_tracked" not in n},
    "half": lambda s: {n: t.half() if t.is_floating_point() else t for n, t in s.items()},
}


@pytest.mark.parametrize("kind", [*FORMS, "safetensors", "url"])
def test_other_forms(
    kind: str, state: dict[str, torch.Tensor], checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"weights.{kind}"
    if kind in FORMS:
        torch.save(FORMS[kind](state), path)
    else:
        safetensors.torch.save_file(state, path)
    weights = weights_of(checkpoint.as_uri() if kind == "url" else path)
    assert set(weights.state) == set(state)
    tolerance = 1e-3 if kind == "half" else 0
    for name, tensor in build(weights.state, weights.options).state_dict().items():
        expected = 0 * state[name] if kind == "no counters" and "num_b" in name else state[name]
        torch.testing.assert_close(tensor, expected, rtol=0, atol=tolerance)


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
    with pytest.raises(
        UsageError, match=f"w.pth hold values that are not finite, first in {name};"
    ):
        weights_of(path)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(UsageError) as refused:
        weights_of(path, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_does_not_fit(
    state: dict[str, torch.Tensor], checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    fits = "; give a state dict of torchvision's fasterrcnn_resnet50_fpn_v2"
    torch.save(fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict(), path)
    line = refusal(path)
    assert re.search(
        r"do not fit fasterrcnn_resnet50_fpn_v2: \S+ is missing; .* is unknown; ", line
    )
    assert f"{fits}; this one looks like the older fasterrcnn_resnet50_fpn, without V2" in line
    torch.save({**state, "backbone.body.conv1.weight": torch.zeros(64, 3, 3, 3)}, path)
    assert f"conv1.weight has shape (64, 3, 3, 3), not (64, 3, 7, 7){fits}" in refusal(path)
    torch.save({**state, "backbone.body.conv1.weight": torch.ones(64, 3, 7, 7).char()}, path)
    assert f"conv1.weight is of torch.int8, not of torch.float32{fits}" in refusal(path)
    torch.save({**state, "neck.weight": torch.zeros(2)}, path)
    assert f"fasterrcnn_resnet50_fpn_v2: neck.weight is unknown{fits}" in refusal(path)
    torch.save({"fc.weight": torch.zeros(2)}, path)
    assert "are not of a fasterrcnn_resnet50_fpn_v2: they have 1 tensor (fc.wei" in refusal(path)
    for odd in (torch.ones(1, 1024), torch.tensor(1.0), torch.ones(4)):
        torch.save({**state, "roi_heads.box_predictor.cls_score.weight": odd}, path)
        assert f"has shape {tuple(odd.shape)}, not one row per class" in refusal(path)
    path.write_bytes(checkpoint.read_bytes()[:100_000])
    assert "a zip, such as torch.save writes, that is cut off or damaged; copy it" in refusal(path)
    assert "does not exist" in refusal(tmp_path / "absent.pth")
    line = refusal(checkpoint, model={"num_classes": 7})
    assert re.search(r"num_classes is 7, but .* have 4 classes", line)
    for seed in ("x", 2**64):
        with pytest.raises(UsageError, match=f"takes a whole number below .*, not '{seed}'"):
            weights_of(f"random:{seed}")


def test_other_networks_are_recognised() -> None:
    """By keys that torchvision gives them, and the one that is wanted does not have."""
    others = (
        maskrcnn_resnet50_fpn_v2,
        keypointrcnn_resnet50_fpn,
        fasterrcnn_mobilenet_v3_large_fpn,
        fasterrcnn_resnet50_fpn,
    )
    with torch.device("meta"):
        wanted = builder(weights=None, weights_backbone=None).state_dict()
        for key, other in zip(RELATIVES, others, strict=True):
            assert key in other(weights=None, weights_backbone=None).state_dict()
            assert key not in wanted


@pytest.mark.parametrize(
    "model,complaint",
    [
        ({"rpn_fg_iou_thresh": 0.2, "rpn_bg_iou_thresh": 0.5}, "refuses the model options: Asser"),
        (
            {"trainable_backbone_layers": 7, "weights_backbone": "V9"},
            "weights_backbone must be one",
        ),
    ],
)
def test_what_only_torchvision_knows(model: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        weights_of("random:0", model=model)


def test_a_backbone_that_is_not_needed_is_not_looked_for(checkpoint: Path) -> None:
    assert weights_of(checkpoint, model={"weights_backbone": "anything"}).trained


def test_a_mistake_is_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "w.pth"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 173\n")
    (tmp_path / "a.jpg").write_bytes(b"")
    flags = ["--input", str(tmp_path), "--output", str(tmp_path / "o"), "--weights", str(path)]
    assert detect.main(flags) == 2
    out, err = capsys.readouterr()
    (line,) = [line for line in err.splitlines() if line.startswith("prelabel detect: ")]
    assert (
        f"weights {path} are not a checkpoint: the file is a Git-LFS pointer" in line and out == ""
    )
    assert not (tmp_path / "o").exists()


def test_coco_weights_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", lambda *a, **k: (_ for _ in ()).throw(OSError("offline"))
    )
    with pytest.raises(UsageError, match="cannot be downloaded.*pass --weights"):
        weights_of("DEFAULT")


def test_random_weights_are_called_untrained() -> None:
    weights = weights_of("random:3", model={"num_classes": 5, "progress": False})
    assert not weights.trained and weights.options["num_classes"] == 5
    assert weights_of("random:0").categories[1] == "person"


def test_the_same_seed_is_the_same_network() -> None:
    # of another size, as the fixture `random_weights_once` hands out what it has made already
    larger = SMALL | {"max_size": 257}
    made = [("random:0", SMALL), ("random:0", larger), ("random:1", SMALL)]
    first, again, other = (weights_of(path, model=model).sha256 for path, model in made)
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
        "image_std": (1, 1, 1),
    }
    weights = weights_of(checkpoint, model=options)
    model = build(weights.state, weights.options)
    assert model.transform.min_size == (300,) and model.transform.image_mean == [0.5, 0.5, 0.5]
    assert [type(x) for x in model.transform.image_std] == [float] * 3
    assert model.roi_heads.score_thresh == 0.5 and model.rpn.nms_thresh == 0.6
