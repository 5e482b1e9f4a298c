"""A run planned: its input listed, some of its images tried, time and money forecast."""

from __future__ import annotations

import dataclasses
from functools import partial

from pipeline.cluster import connection
from pipeline.cluster.placement import Node, Placement
from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.forecast import text
from pipeline.forecast.prices import Machine, Prices
from pipeline.forecast.sample import draw
from pipeline.forecast.trial import try_out
from pipeline.network.weights import resolve
from pipeline.store import objects

# images to try, where the user does not say
IMAGES = {"cuda": 400, "cpu": 40}
# of which, with tiles, only one in so many: each image may be hundreds of forwards
TILED = 10


def plan(config: Config, prices: Prices, images: int | None = None, shared: bool = False) -> str:
    """What a run will take, for a person.

    Args:
        config: of the run; its output is where the trial writes.
        prices: of machines and requests.
        images: to try, by default those of `IMAGES`, and with tiles one in `TILED`.
        shared: whether all nodes of the cluster can reach that output.

    Raises:
        UsageError: the run could not be as it is asked for.
        RunError: the trial broke off, or tried too few images, or no GPU has come.
    """
    weights = resolve(config, partial(objects.read, reading=config.reading))
    connection.connect()
    waits = connection.waits_for_gpu(config)
    if (waits or len(connection.alive()) > 1) and not shared:
        raise UsageError(
            "--scratch is missing: give a prefix that all nodes of the cluster can reach"
        )
    if waits:  # for one, which is enough for a trial
        connection.await_gpu(dataclasses.replace(config, replicas=1))
    config, placement = _placed(config)
    nodes = connection.alive()
    size = images or IMAGES[placement.device] // (TILED if config.tile else 1)
    sample = draw(config, size)
    # the errors of a few images end no trial
    tried = dataclasses.replace(config, limit=None, max_error_rate=1.0)
    trial = try_out(tried, weights, placement, sample)
    machine = _machine(prices, nodes) if placement.gpus else None
    return text.text(config, weights, sample.counted, trial, prices, machine)


def _placed(config: Config) -> tuple[Config, Placement]:
    """Without the replicas that wait for GPUs: what is not there cannot be tried."""
    placement = connection.place(config)
    if placement.waiting:
        config = dataclasses.replace(config, replicas=placement.replicas - placement.waiting)
        placement = connection.place(config)
    return config, placement


def _machine(prices: Prices, nodes: list[Node]) -> Machine | None:
    """The machine whose GPU a node of the cluster has."""
    for machine in prices.machines:
        if any(f"accelerator_type:{machine.gpu}" in node for node in nodes):
            return machine
    return None
