"""One count of `benchmarks.scale --resume`: `python -m benchmarks.resume_driver ROWS FOLDER`."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from benchmarks import null_run, processes, stages
from benchmarks.null_run import Steps
from benchmarks.scale_driver import ROWS_PER_FILE, config_of, write_input
from pipeline import Config
from pipeline.cluster.placement import Placement
from pipeline.driver import record
from pipeline.network.contract import Weights
from pipeline.network.weights import resolve
from pipeline.outputs import schema
from pipeline.outputs.files import FileName, encode
from pipeline.outputs.finished import Finished
from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import Lease
from pipeline.outputs.manifest import Manifest
from pipeline.stages.rows import detections_column
from pipeline.store import objects

# of the attempt that was killed; nothing of it is used again but what the record says
PLACEMENT = Placement(
    device="cpu",
    replicas=1,
    gpus=0.0,
    cpus=1.5,
    memory=0,
    threads=2,
    fetchers=1,
    micro_batch=1,
    rows_per_file=ROWS_PER_FILE,
)


def write_killed(config: Config, layout: Layout, weights: Weights) -> tuple[Manifest, int]:
    """What a run leaves that is killed after nine tenths of its files.

    Returns:
        Its manifest, and the number of images in the files.
    """
    known = record.new(config, weights)
    record.begin(known, config, PLACEMENT)
    listed = null_run.list_input(config, layout, weights, stages.OBJECT_BYTES)
    with Lease(layout) as lease:
        record.save(known, lease)
    written = schema.with_carried(pa.schema([]), record.detector(weights))
    detections = detections_column(stages.made_up(stages.DISTINCT), stages.CATEGORIES)
    done = 0
    while done + ROWS_PER_FILE <= listed.rows * 9 // 10:
        number, offset = listed.place(done)
        if not offset:
            part = listed.read_part(layout, number)
        rows = _fetched(part.slice(offset, ROWS_PER_FILE))
        finished = stages.finished_rows(rows, detections)
        name = FileName.new("ok", done // listed.slice_rows, known.attempt, done)
        objects.put(layout.fs, f"{layout.detections}/{name}", encode(finished, written))
        done += rows.num_rows
    return listed, done


def _fetched(rows: pa.Table) -> pa.Table:
    """Rows of the manifest as `NullFetch` yields them."""
    n = rows.num_rows
    columns: dict[str, Any] = {
        "image_id": rows["image_id"],
        "image_uri": rows["image_uri"],
        "encoded": pa.array([stages.NullFetch.content] * n, pa.large_binary()),
        "attempts": stages.constant(1, n),
    }
    nulls = pa.nulls(n, pa.string())
    return pa.table(columns | dict.fromkeys(("error_stage", "error_code", "error_message"), nulls))


def seconds_to_look(layout: Layout, listed: Manifest) -> float:
    """That it takes to read which images of the first slice are done, on its own."""
    started = time.monotonic()
    Finished.of(layout, listed, 0).load()
    return time.monotonic() - started


def moments(layout: Layout, started: float, steps: Steps) -> dict[str, Any]:
    """Seconds from the command's start, and what they went to."""
    actor, fetched = stages.marks(layout)
    new = Path(layout.detections).rglob("part-*-0002-*.parquet")
    first_file = min(path.stat().st_mtime for path in new)
    seconds = {
        "seconds to the first new image": fetched - started,
        "of that weights": steps.started - started,
        "of that Ray": steps.connecting,
        "of that record, lease, manifest": steps.begun - steps.connected,
        "of that done files, fetch actor": actor - steps.begun,
        "of that manifest rows": fetched - actor,
        "seconds to the first new file": first_file - started,
        "seconds to the end": steps.ended - started,
    }
    return {name: round(value, 2) for name, value in seconds.items()}


def main(rows: int, folder: str) -> dict[str, Any]:
    """Resume a run in this process that is nine tenths done; the figures.

    Args:
        rows: number of images.
        folder: for the input and the output.
    """
    logging.basicConfig(level=logging.WARNING)
    os.environ["RAY_ADDRESS"] = "local"
    write_input(f"{folder}/input.parquet", rows)
    config = config_of(folder)
    layout = Layout.of(config.output)
    listed, done = write_killed(config, layout, resolve(config, objects.read))
    look = seconds_to_look(layout, listed)
    chain = null_run.of_small_objects(stages.MarkingFetch, stages.NullReplica, stages.OBJECT_BYTES)
    started = time.time()
    # anew, as the command does it
    weights = resolve(config, objects.read)
    summary, steps = null_run.execute(config, weights, chain, stages.OBJECT_BYTES)
    assert summary.images == rows and summary.processed == rows - done
    result = {
        "rows": rows,
        "done before": done,
        "files before": done // ROWS_PER_FILE,
        **moments(layout, started, steps),
        "seconds to read the done files, alone": round(look, 2),
        "driver MiB at most": processes.read_status()["VmHWM"] >> 20,
        "ray": ray.__version__,
    }
    ray.shutdown()
    return result


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), sys.argv[2])))
