"""One count of `benchmarks.scale --resume`: `python -m benchmarks.resume_driver ROWS FOLDER`."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from benchmarks import processes, stages
from benchmarks.scale_driver import ROWS_PER_FILE, config_of, write_input
from pipeline import Config
from pipeline.cluster.placement import Placement
from pipeline.config import fingerprint
from pipeline.driver import record, runner
from pipeline.inputs import enumeration
from pipeline.network import weights
from pipeline.outputs import manifest, schema
from pipeline.outputs.files import FileName, encode
from pipeline.outputs.finished import Finished
from pipeline.stages.chain import Chain
from pipeline.stages.rows import detections_column
from pipeline.store import objects, urls


def write_killed(config: Config) -> int:
    """What a run leaves that is killed after nine tenths of its files; returns their images."""
    fs, root = urls.filesystem(config.output)
    weights = weights.resolve(config)
    known = record.new(config, weights)
    record.begin(known, config, Placement("cpu", 1, 0.0, 1.5, 0, 2, 1, 1, ROWS_PER_FILE))
    listed = enumeration.write(config, fs, f"{root}/_run", fingerprint(known.identity))
    record.save(known, fs, f"{root}/_run")
    written = schema.with_carried(pa.schema([]), record.detector(weights))
    detections = detections_column(stages.made_up(stages.DISTINCT), stages.CATEGORIES)
    done = 0
    while done + ROWS_PER_FILE <= listed.rows * 9 // 10:
        number, offset = divmod(done, manifest.PART_ROWS)
        if not offset:
            part = pq.ParquetFile(manifest.part_path(f"{root}/_run", number)).read()
        rows = _fetched(part["image_uri"].slice(offset, ROWS_PER_FILE), done)
        finished = stages.finished_rows(rows, detections)
        name = FileName("ok", done // manifest.SLICE_ROWS, known.attempt, done)
        objects.put(fs, f"{root}/detections/{name}", encode(finished, written))
        done += rows.num_rows
    return done


def _fetched(uris: pa.ChunkedArray, first_id: int) -> pa.Table:
    n = len(uris)
    columns: dict[str, Any] = {
        "image_id": pa.array(range(first_id, first_id + n), pa.int64()),
        "image_uri": uris,
        "encoded": pa.array([stages.NullFetch.content] * n, pa.large_binary()),
        "attempts": stages.constant(1, n),
    }
    nulls = pa.nulls(n, pa.string())
    return pa.table(columns | dict.fromkeys(("error_stage", "error_code", "error_message"), nulls))


class Moments:
    """When each of some functions was first called, and when it first returned."""

    def __init__(self) -> None:
        self.calls: dict[str, float] = {}
        self.returns: dict[str, float] = {}

    def watch(self, owner: Any, name: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def watched(*arguments: Any, **keywords: Any) -> Any:
            self.calls.setdefault(name, time.time())
            result = function(*arguments, **keywords)
            self.returns.setdefault(name, time.time())
            return result

        setattr(owner, name, watched)


def main(rows: int, folder: str) -> dict[str, Any]:
    logging.basicConfig(level=logging.WARNING)
    os.environ["RAY_ADDRESS"] = "local"
    write_input(f"{folder}/input.parquet", rows)
    config = config_of(folder)
    done = write_killed(config)
    stages.install(stages.MarkingFetch, stages.NullReplica, stages.OBJECT_BYTES)
    moments = Moments()
    moments.watch(runner.cluster, "connect")
    moments.watch(Finished, "load")
    moments.watch(Chain, "execute")
    started = time.time()
    summary = runner.run(config, stages.no_engine)
    seconds = time.time() - started
    assert summary and summary.images == rows and summary.processed == rows - done
    marks = {n: Path(config.output, "_run", n).stat().st_mtime for n in ("started", "fetched")}
    new = Path(config.output, "detections").rglob("part-*-0002-*.parquet")
    first_file = min(path.stat().st_mtime for path in new)
    calls, returns = moments.calls, moments.returns
    result = {
        "rows": rows,
        "done before": done,
        "files before": done // ROWS_PER_FILE,
        "seconds to the first new image": round(marks["fetched"] - started, 2),
        "of that weights": round(calls["connect"] - started, 2),
        "of that Ray": round(returns["connect"] - calls["connect"], 2),
        "of that record, lease, manifest": round(calls["load"] - returns["connect"], 2),
        "of that done files": round(returns["load"] - calls["load"], 2),
        "of that fetch actor": round(marks["started"] - returns["load"], 2),
        "of that manifest rows": round(marks["fetched"] - marks["started"], 2),
        "seconds to the first new file": round(first_file - started, 2),
        "seconds to the end": round(seconds, 2),
        "driver MiB at most": processes.read_status()["VmHWM"] >> 20,
        "ray": ray.__version__,
    }
    ray.shutdown()
    return result


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), sys.argv[2])))
