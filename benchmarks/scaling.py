"""Replicas that sleep as a GPU would, on clusters of 1 to 8 nodes of this machine.

Usage: `python -m benchmarks.scaling [--replicas N ...] [--milliseconds MS] [--seconds S] [--jpegs]
[--json FILE]`. The real run with logical GPUs; each cluster, with its driver, is a process group of
its own. Efficiency is the rate over that of replicas which never wait.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.scale import measured

NODES = {1: 1, 2: 1, 4: 2, 8: 4, 16: 4, 64: 8}
COLUMNS = (
    "replicas",
    "nodes",
    "ms an image",
    "images",
    "seconds",
    "efficiency, whole call",
    "efficiency, first to last image",
    "efficiency, all at work",
    "images/s, all at work",
    "cores busy",
    "driver cores",
    "worker cores",
    "raylet and GCS cores",
    "replica MiB at most",
    "driver MiB at most",
    "object store MiB at most",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", default=list(NODES))
    parser.add_argument("--milliseconds", type=float, default=8.0, help="that an image takes")
    parser.add_argument(
        "--seconds",
        type=float,
        default=30.0,
        help="of work for each replica, once all have started",
    )
    parser.add_argument("--jpegs", action="store_true", help="read small JPEGs with the real fetch")
    parser.add_argument("--folder", help="where to put inputs and outputs (default: temporary)")
    parser.add_argument("--json", help="write the figures there, too")
    given = parser.parse_args()
    results: list[dict[str, Any]] = []
    for replicas in given.replicas:
        # a process starts in about two seconds of one core, and the first ones work meanwhile
        seconds = given.seconds + 2.0 * replicas / (os.cpu_count() or 1)
        images = max(200, round(1000 * replicas * seconds / given.milliseconds))
        nodes = NODES.get(replicas, min(8, replicas))
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            results.append(
                measured(
                    "benchmarks.scaling_driver",
                    images,
                    folder,
                    replicas,
                    nodes,
                    given.milliseconds,
                    "jpegs" if given.jpegs else "null",
                )
            )
            print(json.dumps(results[-1]), flush=True)
    if given.json:
        Path(given.json).write_text(json.dumps(results, indent=2))
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, Ray {results[0]['ray']}")
    print(processes.table([{name: row[name] for name in COLUMNS} for row in results]))


if __name__ == "__main__":
    main()
