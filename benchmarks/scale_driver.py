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

from benchmarks import null_run, processes, stages
from benchmarks.null_run import Steps
from benchmarks.processes import Sampler
from pipeline import Config
from pipeline.network.weights import resolve
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import PART_ROWS, SLICE_ROWS
from pipeline.store import objects

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


def config_of(folder: str) -> Config:
    """A run over that table, on this machine's CPUs."""
    return Config(
        input=f"{folder}/input.parquet",
        output=f"{folder}/out",
        weights="random:0",
        rows_per_file=ROWS_PER_FILE,
    )


class Heap:
    """The driver's own memory, in bytes: what is not shared with the object store.

    Attributes:
        before: when the execution began.
    """

    def __init__(self) -> None:
        self.before = 0

    def begin(self) -> None:
        """The execution begins; the peak of all memory is counted from here on."""
        processes.reset_peak()
        self.before = processes.read_status()["RssAnon"]

    def figures(self, layout: Layout, sampler: Sampler, rows: int) -> dict[str, Any]:
        """What is printed of it once the run is over, in this order."""
        most = sampler.seen[os.getpid()].peak_own
        return {
            "driver MiB at most": processes.read_status()["VmHWM"] >> 20,
            "driver heap MiB at the start of execution": self.before >> 20,
            "driver heap MiB at most": most >> 20,
            "driver heap growth, bytes an image": round((most - self.before) / rows, 1),
            "driver heap MiB after each slice": after_slices(layout, sampler.own),
        }


def after_slices(layout: Layout, own: list[tuple[float, int]]) -> list[int]:
    """MiB of the first sample after each slice was sealed.

    Args:
        layout: of an output on this machine.
        own: `Sampler.own`, the last sample from after the run.
    """
    seals = sorted(path.stat().st_mtime for path in Path(layout.seal(0)).parent.iterdir())
    return [next(size for at, size in own if at >= sealed) >> 20 for sealed in seals]


def times(rows: int, seconds: float, steps: Steps) -> dict[str, Any]:
    """What is printed of the time that the whole run took, and its steps."""
    rate = rows / steps.execution
    return {
        "seconds": round(seconds, 1),
        "seconds of listing": round(steps.listing, 1),
        "seconds of execution": round(steps.execution, 1),
        "seconds of the rest": round(seconds - steps.listing - steps.execution, 1),
        "images/s": round(rows / seconds),
        "images/s of execution": round(rate),
        "images/s of execution a core": round(rate / (os.cpu_count() or 1)),
    }


def written(layout: Layout, rows: int) -> dict[str, Any]:
    """What is printed of the output's files."""
    parts = _sizes(Path(layout.parts).iterdir())
    files = _sizes(Path(layout.detections).rglob("*.parquet"))
    return {
        "manifest bytes an image": round(sum(parts) / rows, 2),
        "files": len(files),
        "bytes an image in files": round(sum(files) / rows, 1),
    }


def _sizes(paths: Iterator[Path]) -> list[int]:
    return [path.stat().st_size for path in paths]


def main(rows: int, folder: str, slice_parts: int = 0) -> dict[str, Any]:
    """Run it in this process; the figures.

    Args:
        rows: number of images.
        folder: for the input and the output.
        slice_parts: parts of the manifest in a slice; 0 for as many as a run has.
    """
    logging.basicConfig(level=logging.WARNING)
    write_input(f"{folder}/input.parquet", rows)
    ray.init("local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    config, heap = config_of(folder), Heap()
    chain = null_run.of_small_objects(stages.NullFetch, stages.NullReplica, stages.OBJECT_BYTES)
    slice_rows = slice_parts * PART_ROWS or SLICE_ROWS
    started = time.monotonic()
    with Sampler() as sampler:
        # real ones, for the driver's heap holds them in a real run, too
        weights = resolve(config, objects.read)
        summary, steps = null_run.execute(
            config, weights, chain, stages.OBJECT_BYTES, slice_rows, heap.begin
        )
    seconds = time.monotonic() - started
    assert summary.images == rows and summary.detections == rows * stages.BOXES
    layout, cpu = Layout.of(config.output), sampler.cpu()
    result = {
        "rows": rows,
        **times(rows, seconds, steps),
        "driver CPU, us an image": round(1e6 * cpu["driver"] / rows, 1),
        "all CPU, us an image": round(1e6 * sum(cpu.values()) / rows, 1),
        **heap.figures(layout, sampler, rows),
        **written(layout, rows),
        "object store MiB at most": sampler.store_peak >> 20,
        "spilled MiB": sampler.spilled >> 20,
        "cpu": cpu,
        "memory": sampler.memory(),
        "ray": ray.__version__,
    }
    ray.shutdown()
    return result


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))))
