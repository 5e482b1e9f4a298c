"""One cluster of `benchmarks.scaling`.

Usage: `... IMAGES FOLDER REPLICAS NODES MILLISECONDS null|jpegs`.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import ray
from PIL import Image
from ray.cluster_utils import Cluster

from benchmarks import null_run, processes, stages
from benchmarks.processes import Sampler
from benchmarks.scale_driver import write_input
from pipeline import Config
from pipeline.cluster.placement import REPLICA_MEMORY
from pipeline.stages.fetch import Fetch

STORE_BYTES = 200 * 2**20
CPUS_PER_REPLICA = 0.25
JPEG_BYTES = 3000
# a file system allows some 65,000 links to a file
LINKS = 10_000
# whose CPU time is that of the stages
WORKERS = ("NullFetch", "Fetch", "SleepingReplica", "Writer", "Coordinator")


def write_jpegs(folder: str, images: int) -> None:
    """A folder of 3 KB JPEGs, under a name each."""
    random = np.random.default_rng(0)
    os.makedirs(folder)
    for number in range(images):
        path = f"{folder}/{number:08d}.jpg"
        if number % LINKS == 0:
            source, buffer = path, io.BytesIO()
            pixels = random.integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(pixels).save(buffer, "JPEG", quality=75)
            Path(path).write_bytes(buffer.getvalue())
        else:
            os.link(source, path)


def start(replicas: int, nodes: int, temporary: str) -> None:
    """A cluster with a logical GPU for each replica, evenly spread, that no other process finds."""
    os.environ["RAY_TMPDIR"] = temporary
    gpus = replicas // nodes
    # what the replicas take, and room to fetch and to write
    cpus = math.ceil(gpus * CPUS_PER_REPLICA) + 1
    # else each node starts as many workers as it has CPUs, at once and for nothing
    config: dict[str, Any] = {
        "prestart_worker_first_driver": False,
        "enable_worker_prestart": False,
    }
    # and with so many processes on few cores, being late does not mean being dead
    config |= {"worker_register_timeout_seconds": 300, "health_check_timeout_ms": 60_000}
    # a node of so many GPUs has a CPU for each process; with fewer, Ray ends those that wait
    config["num_workers_soft_limit"] = 2 * gpus + 4
    cluster = Cluster()
    for number in range(nodes):
        first: dict[str, Any] = (
            {"_system_config": config, "include_dashboard": False} if number == 0 else {}
        )
        cluster.add_node(
            num_cpus=cpus,
            num_gpus=gpus,
            memory=(gpus + 1) * REPLICA_MEMORY,  # of a number only: these replicas need little
            object_store_memory=STORE_BYTES,
            **first,
        )
    ray.init(address=cluster.address, log_to_driver=False)


def finished(output: str) -> dict[str, list[tuple[float, int]]]:
    """Replica -> (time, images) of each batch, in order of time."""
    batches: defaultdict[str, defaultdict[float, int]] = defaultdict(lambda: defaultdict(int))
    for path in Path(output, "detections").rglob("*.parquet"):
        counts = pq.ParquetFile(path).read(columns=["model_id"])["model_id"].value_counts()
        for entry in counts.to_pylist():
            replica, moment = entry["values"].split()
            batches[replica][float(moment)] += entry["counts"]
    return {replica: sorted(found.items()) for replica, found in batches.items()}


def rates(batches: dict[str, list[tuple[float, int]]]) -> tuple[float, float]:
    """Images a second from the first to the last batch, and while all replicas were at work.

    All are at work from the moment at which the last one has done its first batch, to that at
    which the first one does its last; NaN if that is less than a second.
    """
    spans = [
        (max(found[0][0] for found in batches.values()), min(f[-1][0] for f in batches.values())),
        (min(found[0][0] for found in batches.values()), max(f[-1][0] for f in batches.values())),
    ]
    found = []
    for begin, end in spans:
        images = sum(n for rows in batches.values() for at, n in rows if begin < at <= end)
        found.append(images / (end - begin) if end - begin > 1 else float("nan"))
    return found[1], found[0]


def config_of(folder: str, mode: str, images: int, replicas: int) -> Config:
    """A run over an input that is made here: `jpegs`, or a table that is all there is (`null`)."""
    if mode == "jpegs":
        source = f"{folder}/images"
        write_jpegs(source, images)
    else:
        source = f"{folder}/input.parquet"
        write_input(source, images)
    return Config(
        input=source,
        output=f"{folder}/out",
        weights="random:0",
        device="cuda",
        replicas=replicas,
        cpus_per_replica=CPUS_PER_REPLICA,
    )


def efficiencies(
    images: int, seconds: float, ideal: float, batches: dict[str, list[tuple[float, int]]]
) -> dict[str, float]:
    """What is printed of the rate.

    Args:
        images: of the run.
        seconds: of the whole call.
        ideal: images a second of replicas that never wait.
        batches: see `finished`.
    """
    span, together = rates(batches)
    return {
        "efficiency, whole call": round(images / seconds / ideal, 3),
        "efficiency, first to last image": round(span / ideal, 3),
        "efficiency, all at work": round(together / ideal, 3),
        "images/s, all at work": round(together, 1),
    }


def usage(sampler: Sampler, before: dict[str, float], seconds: float) -> dict[str, Any]:
    """What is printed of the machine.

    Args:
        sampler: that watched the call.
        before: CPU seconds by kind of process when it began.
        seconds: of the call.
    """
    cpu = {kind: s - before.get(kind, 0.0) for kind, s in sampler.cpu().items()}
    cores = {kind: s / seconds for kind, s in cpu.items()}
    memory = sampler.memory()
    return {
        "cores busy": round(sum(cores.values()), 2),
        "driver cores": round(cores["driver"], 2),
        "worker cores": round(sum(cores.get(kind, 0) for kind in WORKERS), 2),
        "raylet and GCS cores": round(cores.get("raylet", 0) + cores.get("gcs_server", 0), 2),
        "replica MiB at most": memory["SleepingReplica"]["peak_mib"],
        "driver MiB at most": memory["driver"]["peak_mib"],
        "object store MiB at most": sampler.store_peak >> 20,
        "cpu": cpu,
        "memory": memory,
    }


def main(
    images: int, folder: str, replicas: int, nodes: int, milliseconds: float, mode: str
) -> dict[str, Any]:
    """Run it in this process, on a cluster that it starts; the figures.

    Args:
        images: of the run.
        folder: for the input and the output.
        replicas: a multiple of `nodes`.
        nodes: of the cluster.
        milliseconds: that a replica sleeps for an image.
        mode: `jpegs`, read by the real fetch, or `null`.
    """
    logging.basicConfig(level=logging.ERROR)
    config = config_of(folder, mode, images, replicas)
    fetch, size = (
        (Fetch, JPEG_BYTES) if mode == "jpegs" else (stages.NullFetch, stages.OBJECT_BYTES)
    )
    chain = null_run.of_small_objects(fetch, stages.sleeping(milliseconds / 1000), size)
    temporary = tempfile.mkdtemp(prefix="ray")
    start(replicas, nodes, temporary)
    before = processes.cpu_by_kind()
    started = time.monotonic()
    with Sampler(1.0) as sampler:
        # no real weights, for which a node's object store is too small
        summary, _ = null_run.execute(config, null_run.WEIGHTS, chain, size)
    seconds = time.monotonic() - started
    assert summary.images == images and not summary.errors
    batches = finished(config.output)
    assert len(batches) == replicas, f"{len(batches)} of {replicas} replicas did anything"
    result = {
        "replicas": replicas,
        "nodes": nodes,
        "ms an image": milliseconds,
        "images": images,
        "seconds": round(seconds, 1),
        **efficiencies(images, seconds, 1000 * replicas / milliseconds, batches),
        **usage(sampler, before, seconds),
        "ray": ray.__version__,
    }
    ray.shutdown()
    shutil.rmtree(temporary, ignore_errors=True)
    return result


if __name__ == "__main__":
    images, folder, replicas, nodes, milliseconds, mode = sys.argv[1:]
    result = main(int(images), folder, int(replicas), int(nodes), float(milliseconds), mode)
    print(json.dumps(result))
