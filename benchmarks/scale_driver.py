"""One count of `benchmarks.scale`: `python -m benchmarks.scale_driver ROWS FOLDER [PARTS]`."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from benchmarks import processes, stages
from pipeline import Config
from pipeline.driver.runner import run
from pipeline.outputs import finished, manifest
from pipeline.stages.chain import Chain

ROWS_PER_FILE = 4096


def write_input(path: str, rows: int) -> None:
    """A table of so many URIs, whose names compress no better than hashes do."""
    random = np.random.default_rng(0)
    schema = pa.schema([pa.field("image_uri", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, rows, 100_000):
            names = random.integers(2**63, size=min(100_000, rows - first)).tolist()
            uris = [f"s3://bucket/images/{first // 100_000:04d}/{n:016x}.jpg" for n in names]
            writer.write_table(pa.table([uris], schema=schema))


class Execution:
    """Time and memory of the driver while the chain is executed; replaces `Chain.execute`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.peak = self.start_own = 0
        self.own_after: list[int] = []
        self.execute = Chain.execute

    def __call__(self, chain: Chain, *arguments: Any) -> Iterator[pa.Table]:
        if not self.start_own:
            processes.reset_peak()
            self.start_own = processes.read_status()["RssAnon"]
        started = time.monotonic()
        yield from self.execute(chain, *arguments)
        self.seconds += time.monotonic() - started
        status = processes.read_status()
        self.peak = status["VmHWM"]
        self.own_after.append(status["RssAnon"] >> 20)


def config_of(folder: str) -> Config:
    return Config(
        input=f"{folder}/input.parquet",
        output=f"{folder}/out",
        weights="random:0",
        rows_per_file=ROWS_PER_FILE,
    )


def sizes(paths: Iterator[Path]) -> list[int]:
    return [path.stat().st_size for path in paths]


def main(rows: int, folder: str, slice_parts: int = 0) -> dict[str, Any]:
    if slice_parts:
        manifest.SLICE_ROWS = finished.SLICE_ROWS = slice_parts * manifest.PART_ROWS
    logging.basicConfig(level=logging.WARNING)
    write_input(f"{folder}/input.parquet", rows)
    ray.init("local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    stages.install(stages.NullFetch, stages.NullReplica, stages.OBJECT_BYTES)
    execution = Execution()
    Chain.execute = lambda chain, *given: execution(chain, *given)  # type: ignore[method-assign]
    started = time.monotonic()
    with processes.Sampler() as sampler:
        summary = run(config_of(folder), stages.no_engine)
    seconds = time.monotonic() - started
    assert summary and summary.images == rows and summary.detections == rows * stages.BOXES
    record = json.loads(Path(f"{folder}/out/_run/run.json").read_text())
    parts = sizes(Path(f"{folder}/out/_run/manifest").iterdir())
    files = sizes(Path(f"{folder}/out/detections").rglob("*.parquet"))
    listing = record["attempts"][-1]["seconds"]["list"]
    cores = os.cpu_count() or 1
    cpu = sampler.cpu()
    own = sampler.seen[os.getpid()].peak_own
    result = {
        "rows": rows,
        "seconds": round(seconds, 1),
        "seconds of listing": round(listing, 1),
        "seconds of execution": round(execution.seconds, 1),
        "seconds of the rest": round(seconds - listing - execution.seconds, 1),
        "images/s": round(rows / seconds),
        "images/s of execution": round(rows / execution.seconds),
        "images/s of execution a core": round(rows / execution.seconds / cores),
        "driver CPU, us an image": round(1e6 * cpu["driver"] / rows, 1),
        "all CPU, us an image": round(1e6 * sum(cpu.values()) / rows, 1),
        "driver MiB at most": execution.peak >> 20,
        "driver heap MiB at the start of execution": execution.start_own >> 20,
        "driver heap MiB at most": own >> 20,
        "driver heap growth, bytes an image": round((own - execution.start_own) / rows, 1),
        "manifest bytes an image": round(sum(parts) / rows, 2),
        "files": len(files),
        "bytes an image in files": round(sum(files) / rows, 1),
        "object store MiB at most": sampler.store_peak >> 20,
        "spilled MiB": sampler.spilled >> 20,
        "driver heap MiB after each slice": execution.own_after,
        "cpu": cpu,
        "memory": sampler.memory(),
        "ray": ray.__version__,
    }
    ray.shutdown()
    return result


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))))
