"""The figures of an epoch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.training import loop
from pipeline.training.recipe import Recipe


def test_an_epoch_is_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a part of every batch."""
    mine = {"loss_classifier": 1.0, "loss_objectness": 0.5}
    monkeypatch.setattr(loop, "_train", lambda *_: (mine, 3))
    start = SimpleNamespace(categories={})
    task: Any = SimpleNamespace(recipe=Recipe(), start=start, held_images=[])
    network: Any = nn.Linear(1, 1)
    chosen = torch.optim.SGD(network.parameters())

    def gather(found: np.ndarray) -> list[np.ndarray]:
        return [found, found + 1]

    world = loop.World(0, 2, torch.device("cpu"), lambda model: model, gather)
    found = loop._epoch(task, world, network, network, chosen, 1)
    assert found["losses"] == {"loss_classifier": 1.5, "loss_objectness": 1.0}
    assert found["loss"] == 2.5 and found["unread"] == 7
    alone = loop._epoch(task, loop.alone(world.device), network, network, chosen, 1)
    assert alone["losses"] == mine and alone["loss"] == 1.5 and alone["unread"] == 3
