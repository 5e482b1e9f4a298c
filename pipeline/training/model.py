"""torchvision's network as it is trained: which layers, which statistics, at which scales."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.ops import MultiScaleRoIAlign

from pipeline.errors import RunError
from pipeline.network.build import build
from pipeline.training.recipe import Recipe
from pipeline.training.start import ALL_LAYERS, Start

# of the shorter side, of which torchvision's transform draws one for each image in training
SCALES = (0.8, 0.9, 1.1, 1.2)
# of the gradient's norm; torchvision's reference has none, and is for batches of 16
CLIP = 10.0
MOMENTUM = 0.9
BACKBONE = ("layer4", "layer3", "layer2", "layer1", "conv1")


def network(start: Start, recipe: Recipe) -> FasterRCNN:
    """The network in eval mode, on the CPU; what is not trained asks for no gradient."""
    model = build(start.state, start.options)
    # as torchvision's _resnet_fpn_extractor, which knows nothing of weights that come later
    trained = BACKBONE[: start.trained_layers]
    trained += ("bn1",) if start.trained_layers == ALL_LAYERS else ()
    for name, parameter in model.backbone.body.named_parameters():
        parameter.requires_grad_(name.startswith(trained) if trained else False)
    size = model.transform.min_size[-1]
    if "scale" in recipe.augment and model.transform.fixed_size is None:
        # the last one is that of inference
        model.transform.min_size = (*(round(size * x) for x in SCALES), size)
    return model


def freezes_statistics(start: Start, recipe: Recipe) -> bool:
    """Whether batch norms keep the statistics that they have.

    A batch of a few images has others than the data set, so that a network which was trained with
    good ones forgets what it knew. Untrained ones say nothing yet, and must be updated.
    """
    return recipe.batch_norm == "frozen" or (recipe.batch_norm == "auto" and not start.is_random)


def set_training(model: nn.Module, frozen: bool) -> None:
    """Training mode; batch norms with frozen statistics, whose scale and shift are trained."""
    model.train()
    for module in model.modules():
        if frozen and isinstance(module, nn.BatchNorm2d):
            module.eval()
        if isinstance(module, MultiScaleRoIAlign):
            module.scales = None  # which it keeps from the first image that it was given


def optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Of all parameters that are trained."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    lr, decay = recipe.highest_lr, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr, MOMENTUM, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr, weight_decay=decay)


def step(
    model: nn.Module,
    chosen: torch.optim.Optimizer,
    images: list[Tensor],
    targets: list[dict[str, Tensor]],
) -> dict[str, float]:
    """One step on the sum of torchvision's four losses; returns them.

    Args:
        model: in training mode.
        chosen: optimizer of its parameters.
        images: each [3, height, width] float32 in 0 to 1.
        targets: for each `boxes` [n, 4] float32 in pixels of the image, `labels` [n] int64.

    Raises:
        RunError: the loss or its gradient is no finite number. With several workers each of them
            raises, for they have one gradient.
    """
    losses = model(images, targets)
    loss = torch.stack(list(losses.values())).sum()
    chosen.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for group in chosen.param_groups for p in group["params"]]
    if not torch.nn.utils.clip_grad_norm_(parameters, CLIP).isfinite():
        raise RunError(
            f"the loss ({loss.item():g}) or its gradient is not a finite number: the training "
            "diverges. Give a lower --lr, and another folder as --to"
        )
    chosen.step()
    return {name: value.item() for name, value in losses.items()}
