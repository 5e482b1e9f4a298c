"""The driver and the rest of the pipeline over many rows, with stages that cost nothing.

Usage: `python -m benchmarks.scale [--rows N ...] [--resume] [--json FILE]`. The real run, Ray,
manifest, writer and sealing; no object is read, no image decoded, no network run. Each count has a
driver process and a Ray cluster of its own. With `--resume`, each run is found 90 % done.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

COUNTS = [10_000, 100_000, 1_000_000, 10_000_000]


def measured(program: str, *arguments: object) -> dict[str, Any]:
    """What a driver process of its own says in its last line."""
    command = [sys.executable, "-m", program, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument(
        "--slice-parts", type=int, metavar="N", help="so many parts of the manifest a slice"
    )
    parser.add_argument("--folder", help="where to put inputs and outputs (default: temporary)")
    parser.add_argument("--json", help="write the figures there, too")
    given = parser.parse_args()
    if given.resume and given.slice_parts:
        parser.error("--slice-parts goes without --resume")
    program = "benchmarks.resume_driver" if given.resume else "benchmarks.scale_driver"
    results = []
    for rows in given.rows:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            parts = [given.slice_parts] if given.slice_parts else []
            results.append(measured(program, rows, folder, *parts))
            print(json.dumps(results[-1]), flush=True)
    if given.json:
        Path(given.json).write_text(json.dumps(results, indent=2))
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, Ray {results[0]['ray']}")
    shown = [{k: v for k, v in r.items() if not isinstance(v, dict | list | str)} for r in results]
    print("| | " + " | ".join(f"{r['rows']:,} rows" for r in results) + " |")
    print("|" + " --- |" * (len(results) + 1))
    for name in list(shown[0])[1:]:
        print(f"| {name} | " + " | ".join(f"{row[name]:,}" for row in shown) + " |")


if __name__ == "__main__":
    main()
