"""Placement on clusters of many forms, by their resources alone; and the cluster file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from pipeline import Config, RunError, UsageError
from pipeline.cluster.connection import await_gpu, place
from pipeline.cluster.placement import RESERVED_CPUS, Placement


def placed(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], **options: Any
) -> Placement:
    alive = [{"Alive": True, "Resources": node} for node in nodes]
    dead = [{"Alive": False, "Resources": {"CPU": 64, "GPU": 8}}]
    monkeypatch.setattr(ray, "nodes", lambda: alive + dead)
    placement = place(Config(input="i", output="o", **options))
    total = sum(node.get("CPU", 0) for node in nodes)
    # whatever is chosen, fetching and writing find room beside the replicas
    here = placement.replicas - placement.waiting
    used = here * placement.cpus + placement.fetchers * 0.25 + 0.25
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
def test_defaults(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], replicas: int, cpus: float
) -> None:
    placement = placed(monkeypatch, nodes)
    assert (placement.replicas, placement.cpus) == (replicas, cpus)
    assert placement.device == ("cuda" if any("GPU" in node for node in nodes) else "cpu")


def test_shares_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"CPU": 16.0, "GPU": 2.0}]
    assert placed(monkeypatch, nodes, gpus_per_replica=0.5).replicas == 4
    assert placed(monkeypatch, nodes, gpus_per_replica=2).replicas == 1
    assert placed(monkeypatch, nodes, device="cpu").gpus == 0


def test_no_more_replicas_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert placed(monkeypatch, [{"CPU": 8}], replicas=50).replicas == 2
    assert placed(monkeypatch, [{"CPU": 8}], replicas=1).replicas == 1
    assert placed(monkeypatch, [{"CPU": 8}], replicas=5, cpus_per_replica=1).replicas == 5


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
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[dict[str, float]],
    options: dict[str, Any],
    replicas: int,
    waiting: int,
) -> None:
    placement = placed(monkeypatch, nodes, replicas=5, **options)
    assert (placement.replicas, placement.waiting) == (replicas, waiting)


def test_no_gpu_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked of the autoscaler is taken back."""
    asked: list[object] = []
    taken: list[object] = []

    def group(bundles: object) -> object:
        asked.append(bundles)
        return bundles

    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 4}}])
    monkeypatch.setattr(cluster, "GPU_SECONDS", 0.2)
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(cluster, "placement_group", group)
    monkeypatch.setattr(cluster, "remove_placement_group", taken.append)
    for options in ({"device": "cuda"}, {"device": "auto", "replicas": 3}):  # wait for none
        await_gpu(Config(input="i", output="o", **options))
    with pytest.raises(RunError, match="no GPU has come to the cluster"):
        await_gpu(Config(input="i", output="o", device="cuda", replicas=3, gpus_per_replica=0.5))
    assert asked == taken == [[{"GPU": 0.5}]] * 3


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 2.0**30
    short = [{"CPU": 16, "memory": 8 * gib}]
    assert placed(monkeypatch, short).replicas == 2
    assert placed(monkeypatch, short * 3).replicas == 6
    laptop = placed(monkeypatch, [{"CPU": 4, "memory": 2 * gib}])
    assert (laptop.replicas, laptop.memory) == (1, gib)
    mixed = [{"CPU": 4, "memory": 90 * gib}, {"CPU": 8, "GPU": 1, "memory": 4 * gib}]
    assert placed(monkeypatch, mixed).memory == 2 * gib


@pytest.mark.parametrize(
    "nodes,options,complaint",
    [
        ([{"CPU": 2}], {"cpus_per_replica": 2}, "needs 2 CPUs on one node"),
        ([{"CPU": 4}] * 3, {"cpus_per_replica": 5}, "the largest node has 4 CPUs"),
        ([{"CPU": 8}], {"device": "cuda"}, "has no GPU"),
        ([{"CPU": 8, "GPU": 1}], {"gpus_per_replica": 2}, "and 2 GPUs on one node"),
        ([{"CPU": 0.5}], {}, "too small to ever start"),
        ([{"CPU": 0}], {}, "no node of the cluster takes work; pass --device cuda"),
        ([{}], {"replicas": 3}, "no node of the cluster takes work; pass --device cuda"),
        ([{"CPU": 0}], {"device": "cuda"}, "has no GPU"),
    ],
)
def test_too_small(
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[dict[str, float]],
    options: dict[str, Any],
    complaint: str,
) -> None:
    with pytest.raises(UsageError, match=complaint):
        placed(monkeypatch, nodes, **options)


def test_the_cluster_file_is_one_for_ray() -> None:
    content = yaml.safe_load((Path(__file__).parents[1] / "cluster.yaml").read_text())
    validate_config(prepare_config(content))
