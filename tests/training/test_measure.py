"""What AP is measured with."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from pipeline.training import measure


def test_every_process_measures_the_checkpoint_of_rank_0() -> None:
    """DistributedDataParallel shares statistics before a forward alone."""
    networks = [nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)) for _ in range(2)]
    for network in networks:
        network(torch.randn(2, 3, 8, 8))
    theirs = {name: tensor.clone() for name, tensor in networks[0].named_buffers()}
    given = torch.cat([theirs["1.running_mean"], theirs["1.running_var"]]).numpy()

    def gather(mine: np.ndarray) -> list[np.ndarray]:
        return [given, mine]

    assert not torch.equal(networks[1].get_buffer("1.running_mean"), theirs["1.running_mean"])
    measure.share_buffers(networks[1], gather)
    for name, tensor in networks[1].named_buffers():
        assert torch.equal(tensor, theirs[name]), name
