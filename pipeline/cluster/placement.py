"""What a cluster has room for: how many of what run where, and whether a run can start at all."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.config import MICRO_BATCH, ROWS_PER_FILE, Config
from pipeline.errors import UsageError

# Logical share of a fetch actor, and of a writer, which mostly wait for the network. One of each
# must fit beside the replicas, else Ray Data waits for ever for a CPU that a replica holds.
STAGE_CPUS = 0.25
RESERVED_CPUS = 2 * STAGE_CPUS
REPLICA_CPUS = 4
# Heap of a replica with micro-batches of large photographs, which Ray counts only if it is told.
# Less where no node has so much.
REPLICA_MEMORY = 4 * 2**30
GPU_REPLICAS_PER_FETCHER = 4
CPU_REPLICAS_PER_FETCHER = 32

# a node's resources, as Ray names them: CPU, GPU, memory (bytes), ...
Node = dict[str, float]


@dataclass(frozen=True)
class Placement:
    """How a run uses the cluster.

    Attributes:
        device: `cuda` or `cpu`.
        replicas: number of replicas.
        gpus: GPU share of each; 0 on CPU.
        cpus: logical CPUs of each.
        memory: bytes of a node's memory that each is given.
        threads: decode threads of each, and on CPU the network's threads.
        fetchers: number of fetch actors, and of writers.
        micro_batch: images in one forward.
        rows_per_file: rows that wait for one file.
        waiting: replicas for which the cluster has no GPU yet.
    """

    device: str
    replicas: int
    gpus: float
    cpus: float
    memory: int
    threads: int
    fetchers: int
    micro_batch: int
    rows_per_file: int
    waiting: int = 0


def gpus_of(nodes: list[Node]) -> float:
    """Number of GPUs of a cluster."""
    return sum(node.get("GPU", 0) for node in nodes)


def place(config: Config, nodes: list[Node]) -> Placement:
    """The placement of a run on a cluster.

    Replicas on GPUs are as many as the run wants, also where there are fewer GPUs: those that find
    no room wait for it, which is what an autoscaler goes by, and start as GPUs come.

    Args:
        config: the run's.
        nodes: of the cluster.

    Raises:
        UsageError: no GPU where one is wanted, or no room for a single replica.
    """
    device = _device(config, nodes)
    share = config.gpus_per_replica if device == "cuda" else 0.0
    cpus = config.cpus_per_replica or _default_cpus(nodes, share)
    hosts = [node for node in nodes if node.get("GPU", 0) >= share]
    largest = max((node.get("memory", 0) for node in hosts), default=0)
    memory = min(REPLICA_MEMORY, int(largest / 2))
    most, spare = _room(nodes, cpus, share, memory)
    # by a replica less; where it has less than an actor, only several make room for one
    freed = cpus / STAGE_CPUS if cpus < STAGE_CPUS else int(cpus / STAGE_CPUS + 1e-6)
    fit = most - max(0, math.ceil((2 - spare) / freed - 1e-6))
    if fit < 1:
        raise UsageError(_too_small(nodes, cpus, share))
    slots = sum(_times(node, "GPU", share) for node in nodes) if share else 0
    wanted = config.replicas or fit
    # where CPUs are short, a waiting replica would take those that fetching and writing need
    replicas = wanted if fit == slots else min(wanted, fit)
    per_fetcher = GPU_REPLICAS_PER_FETCHER if share else CPU_REPLICAS_PER_FETCHER
    free = spare + freed * (most - min(replicas, fit))
    return Placement(
        device=device,
        replicas=replicas,
        gpus=share,
        cpus=cpus,
        memory=memory,
        threads=math.ceil(cpus),
        fetchers=max(1, min(math.ceil(replicas / per_fetcher), int(free / 2 + 1e-6))),
        micro_batch=config.micro_batch or MICRO_BATCH[device],
        rows_per_file=config.rows_per_file or ROWS_PER_FILE[device],
        waiting=max(0, replicas - fit),
    )


def _device(config: Config, nodes: list[Node]) -> str:
    gpus = gpus_of(nodes)
    device = config.device if config.device != "auto" else ("cuda" if gpus else "cpu")
    if device == "cuda" and not gpus:
        raise UsageError(
            "the cluster has no GPU; pass --device cpu to run without one, or --device cuda and "
            "--replicas to have an autoscaler add some"
        )
    if not gpus and not any(node.get("CPU") for node in nodes):
        raise UsageError(
            "no node of the cluster has CPUs or GPUs for work; pass --device cuda and --replicas "
            "to have an autoscaler add GPUs"
        )
    return device


def _default_cpus(nodes: list[Node], share: float) -> float:
    """About four cores each, evenly split, with a little left for fetching and writing."""
    if share:
        hosts = [node for node in nodes if node.get("GPU", 0) >= share]
        if not hosts:
            return 1.0
        slots = [
            (node.get("CPU", 0) - RESERVED_CPUS) / _times(node, "GPU", share) for node in hosts
        ]
        return max(0.5, min(REPLICA_CPUS, math.floor(min(slots) * 4) / 4))
    cores = max(node.get("CPU", 0) for node in nodes)
    return max(0.5, cores / max(1, math.ceil(cores / REPLICA_CPUS)) - RESERVED_CPUS)


def _room(nodes: list[Node], cpus: float, share: float, memory: int) -> tuple[int, int]:
    """How many replicas fit, and how many actors of other stages beside them, node by node."""
    wanted = {"CPU": cpus, "GPU": share, "memory": memory}
    counts = [min(_times(node, *kind) for kind in wanted.items() if kind[1]) for node in nodes]
    left = (node.get("CPU", 0) - count * cpus for node, count in zip(nodes, counts, strict=True))
    return sum(counts), sum(int(cpu / STAGE_CPUS + 1e-6) for cpu in left)


def _times(node: Node, kind: str, share: float) -> int:
    """How often a node has such a share of a resource; a tenth of a GPU fits ten times."""
    return int(node.get(kind, 0) / share + 1e-6)


def _too_small(nodes: list[Node], cpus: float, share: float) -> str:
    largest = max(nodes, key=lambda node: (node.get("GPU", 0) if share else 0, node.get("CPU", 0)))
    needs = f"{cpus:g} CPUs" + (f" and {share:g} GPUs" if share else "")
    has = f"{largest.get('CPU', 0):g} CPUs" + (
        f" and {largest.get('GPU', 0):g} GPUs" if share else ""
    )
    return (
        f"the cluster is too small for the run: a replica needs {needs} on one node, and fetching "
        f"and writing need {RESERVED_CPUS:g} CPUs more; the largest node has {has}. Lower "
        f"--cpus-per-replica{' or --gpus-per-replica' if share else ''}, or use larger nodes"
    )
