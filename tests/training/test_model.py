"""A step is torchvision's own, and touches what it shall."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn_v2

from pipeline.config import Config
from pipeline.errors import RunError
from pipeline.training import model
from pipeline.training.augment import Augmentation
from pipeline.training.recipe import AUGMENTATIONS, Recipe
from pipeline.training.start import Start, start
from tests.support.drawn import SIDE, TINY

BOX = np.array([[10, 20, 40, 44]], np.float32)


def batch() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Two images, the second of which shows nothing."""
    pixels = np.random.default_rng(0).integers(0, 255, (2, SIDE, SIDE, 3), np.uint8)
    plain = Augmentation(())
    none = np.empty((0, 4), np.float32)
    pairs = [plain(pixels[0], BOX, np.array([2])), plain(pixels[1], none, np.empty(0, np.int64))]
    return [image for image, _ in pairs], [target for _, target in pairs]


PLAIN = Recipe(new_predictor=True, augment=())


@pytest.fixture(scope="module")
def begun(calibrated_file: str) -> Start:
    options = TINY | {"trainable_backbone_layers": 1}
    config = Config(input="in", output="out", weights=calibrated_file, model=options)
    return start(config, PLAIN, ["disc", "bar"])


@pytest.fixture(scope="module")
def built(begun: Start) -> FasterRCNN:
    return model.network(begun, Recipe(augment=("scale",)))


@pytest.fixture
def network(begun: Start, built: FasterRCNN) -> FasterRCNN:
    """As it is trained, at one scale."""
    network = copy.deepcopy(built)
    network.transform.min_size = network.transform.min_size[-1:]
    model.set_training(network, model.freezes_statistics(begun, PLAIN))
    return network


def test_its_losses_are_torchvisions(begun: Start, network: FasterRCNN) -> None:
    theirs = fasterrcnn_resnet50_fpn_v2(
        weights=None, weights_backbone=None, num_classes=3, **TINY
    ).train()
    theirs.load_state_dict({k: torch.tensor(v) for k, v in begun.state.items()})
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    images, targets = batch()
    torch.manual_seed(3)
    expected = {k: v.item() for k, v in theirs(images, targets).items()}
    torch.manual_seed(3)
    found = model.step(network, model.optimizer(network, PLAIN), images, targets)
    assert found == expected and len(found) == 4 and min(found.values()) > 0


def test_what_is_frozen_stays(begun: Start, network: FasterRCNN) -> None:
    model.step(network, model.optimizer(network, Recipe(optimizer="sgd")), *batch())
    changed = {
        name
        for name, tensor in network.state_dict().items()
        if not np.array_equal(tensor.numpy(), begun.state[name])
    }
    assert not [n for n in changed if "running_" in n or "num_batches" in n]
    body = {name for name in changed if name.startswith("backbone.body")}
    assert body and all(name.startswith("backbone.body.layer4") for name in body)
    assert {"roi_heads.box_predictor.cls_score.weight", "rpn.head.cls_logits.weight"} <= changed


def test_statistics_are_updated_where_that_is_wanted(begun: Start, network: FasterRCNN) -> None:
    model.set_training(network, model.freezes_statistics(begun, Recipe(batch_norm="updated")))
    network(*batch())
    name = "backbone.body.bn1.running_mean"
    assert not np.array_equal(network.state_dict()[name].numpy(), begun.state[name])


def test_a_loss_that_is_no_number_is_one_line(network: FasterRCNN) -> None:
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.bias.fill_(torch.inf)
    with pytest.raises(RunError, match="not a finite number: the training diverges. Give a lower"):
        model.step(network, model.optimizer(network, PLAIN), *batch())


def test_scales_are_drawn_in_training_alone(built: FasterRCNN) -> None:
    transform = built.transform
    assert transform.min_size == (51, 58, 70, 77, 64)
    sizes = {transform([torch.zeros(3, 64, 64)])[0].image_sizes[0] for _ in range(5)}
    assert sizes == {(64, 64)}  # in eval mode


def test_boxes_go_with_the_pixels() -> None:
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[20:44, 10:40] = 255
    torch.manual_seed(0)
    seen = set()
    for name in ("flip", "vflip", "crop"):
        for _ in range(12):
            image, target = Augmentation([name])(pixels, BOX, np.array([2]))
            assert image.dtype == torch.float32 and target["labels"].dtype == torch.int64
            for box in target["boxes"].round().int().tolist():
                left, top, right, bottom = box
                assert image[:, top:bottom, left:right].min() == 1
                seen.add((name, *box))
            inside = sum(float((b[2] - b[0]) * (b[3] - b[1])) for b in target["boxes"])
            assert name == "crop" or inside * 3 == float(image.sum())
    assert {("flip", 24, 20, 54, 44), ("vflip", 10, 20, 40, 44)} <= seen
    assert len([one for one in seen if one[0] == "crop"]) > 2


def test_images_without_boxes_are_augmented_too() -> None:
    none = np.empty((0, 4), np.float32)
    every = Augmentation(AUGMENTATIONS)
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    for _ in range(4):
        _, target = every(pixels, none, np.empty(0, np.int64))
        assert target["boxes"].shape == (0, 4) and target["labels"].shape == (0,)
