"""Placement on clusters of many forms, by their resources alone."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import Config, UsageError
from pipeline.cluster.placement import RESERVED_CPUS, Node, Placement, place


def placed(nodes: list[Node], **options: Any) -> Placement:
    placement = place(Config(input="i", output="o", **options), nodes)
    total = sum(node.get("CPU", 0) for node in nodes)
    # whatever is chosen, fetching and writing find room beside the replicas
    here = placement.replicas - placement.waiting
    used = here * placement.cpus + placement.fetchers * RESERVED_CPUS
    assert used <= total and RESERVED_CPUS == 0.5
    return placement


@pytest.mark.parametrize(
    "nodes,replicas,cpus",
    [
        ([{"CPU": 1}], 1, 0.5),
        ([{"CPU": 2}], 1, 1.5),
        ([{"CPU": 4}], 1, 3.5),
        ([{"CPU": 8}], 2, 3.5),
        ([{"CPU": 16}], 4, 3.5),
        ([{"CPU": 0}, {"CPU": 8}, {"CPU": 8}], 4, 3.5),
        ([{"CPU": 8, "GPU": 1}], 1, 4),
        ([{"CPU": 2, "GPU": 1}], 1, 1.5),
        ([{"CPU": 96, "GPU": 8}], 8, 4),
        ([{"CPU": 0}] + [{"CPU": 8, "GPU": 1}] * 5, 5, 4),
        ([{"CPU": 4, "GPU": 4}], 4, 0.75),
    ],
)
def test_defaults(nodes: list[Node], replicas: int, cpus: float) -> None:
    placement = placed(nodes)
    assert (placement.replicas, placement.cpus) == (replicas, cpus)
    assert placement.device == ("cuda" if any("GPU" in node for node in nodes) else "cpu")


def test_shares_of_a_gpu() -> None:
    nodes = [{"CPU": 16.0, "GPU": 2.0}]
    assert placed(nodes, gpus_per_replica=0.5).replicas == 4
    assert placed(nodes, gpus_per_replica=2).replicas == 1
    tenths = placed([{"CPU": 40, "GPU": 1}], gpus_per_replica=0.1)
    assert (tenths.replicas, tenths.cpus) == (10, 3.75)
    assert placed(nodes, device="cpu").gpus == 0


def test_no_more_replicas_than_fit() -> None:
    assert placed([{"CPU": 8}], replicas=50).replicas == 2
    assert placed([{"CPU": 8}], replicas=1).replicas == 1
    assert placed([{"CPU": 8}], replicas=5, cpus_per_replica=1).replicas == 5
    # what is left of each node is too little for an actor of the other stages
    assert placed([{"CPU": 4}] * 3, cpus_per_replica=3.8).replicas == 2
    in_pieces = placed([{"CPU": 4.0}] * 40 + [{"CPU": 0.5}], cpus_per_replica=3.8)
    assert (in_pieces.replicas, in_pieces.fetchers) == (40, 1)
    # one replica less makes no room for such an actor
    for cpus, replicas in ((0.1, 5), (0.2, 2), (0.05, 10)):
        assert placed([{"CPU": 1}], cpus_per_replica=cpus).replicas == replicas


@pytest.mark.parametrize(
    "nodes,options,replicas,waiting",
    [
        ([{"CPU": 8, "GPU": 1}], {}, 5, 4),
        ([{"CPU": 0}, {"CPU": 8, "GPU": 2}], {"gpus_per_replica": 0.5}, 5, 1),
        ([{"CPU": 8, "GPU": 1}], {"device": "cpu"}, 2, 0),
        # what is short here are CPUs, which a waiting replica would take from fetching and writing
        ([{"CPU": 8, "GPU": 4}], {"cpus_per_replica": 2}, 3, 0),
        ([{"CPU": 8, "GPU": 4}], {"cpus_per_replica": 1.75}, 5, 1),
    ],
)
def test_more_replicas_than_there_are_gpus(
    nodes: list[Node], options: dict[str, Any], replicas: int, waiting: int
) -> None:
    placement = placed(nodes, replicas=5, **options)
    assert (placement.replicas, placement.waiting) == (replicas, waiting)


def test_memory() -> None:
    gib = 2.0**30
    short = [{"CPU": 16, "memory": 8 * gib}]
    assert placed(short).replicas == 2
    assert placed(short * 3).replicas == 6
    laptop = placed([{"CPU": 4, "memory": 2 * gib}])
    assert (laptop.replicas, laptop.memory) == (1, gib)
    mixed = [{"CPU": 4, "memory": 90 * gib}, {"CPU": 8, "GPU": 1, "memory": 4 * gib}]
    assert placed(mixed).memory == 2 * gib


@pytest.mark.parametrize(
    "nodes,options,complaint",
    [
        ([{"CPU": 2}], {"cpus_per_replica": 2}, "needs 2 CPUs on one node"),
        ([{"CPU": 4}] * 3, {"cpus_per_replica": 5}, "the largest node has 4 CPUs"),
        ([{"CPU": 8}], {"device": "cuda"}, "has no GPU"),
        ([{"CPU": 8, "GPU": 1}], {"gpus_per_replica": 2}, "and 2 GPUs on one node"),
        ([{"CPU": 0.5}], {}, "too small for the run"),
        ([{"CPU": 0}], {}, "no node of the cluster has CPUs or GPUs for work; pass --device cuda"),
        (
            [{}],
            {"replicas": 3},
            "no node of the cluster has CPUs or GPUs for work; pass --device cuda",
        ),
        ([{"CPU": 0}], {"device": "cuda"}, "has no GPU"),
    ],
)
def test_too_small(nodes: list[Node], options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        placed(nodes, **options)
