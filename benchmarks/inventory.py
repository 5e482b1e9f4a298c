"""Time and memory of making the manifest of a run from an S3 Inventory.

Usage: `python -m benchmarks.inventory [--keys N] [--format CSV|ORC|Parquet]`. The inventory is made
up, a million keys a file, in a real S3 server on this machine; the objects that it names are never
asked for.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support import seaweed
from tests.support.inventories import publish

FILE_KEYS = 1_000_000
# in a process of its own, whose peak is told
PROGRAM = """
import sys, time
from pipeline.config import Config
from pipeline.inputs import enumeration
from pipeline.outputs.layout import Layout

open("/proc/self/clear_refs", "w").write("5")  # forget the peak, which is the parent's
config, started = Config(input=sys.argv[1], output=sys.argv[2]), time.monotonic()
found = enumeration.write(config, Layout.of(config.output), "")
with open("/proc/self/status") as file:
    peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
wall, cpu = time.monotonic() - started, time.process_time()
print(f"{found.rows:,} images: {wall:.0f} s, {cpu:.0f} of them CPU; at most {peak // 1024} MB")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--format", default="CSV", choices=("CSV", "ORC", "Parquet"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, seaweed.serve(Path(folder)) as s3:
        s3.create_bucket(Bucket="inventories")
        started = time.monotonic()
        url = publish(s3, "inventories", _files(args.keys), args.format)
        print(f"made in {time.monotonic() - started:.0f} s: {url}", flush=True)
        command = [sys.executable, "-c", PROGRAM, url, f"{folder}/out"]
        subprocess.run(command, check=True, env=os.environ | {"TMPDIR": folder})


def _files(keys: int) -> Iterator[list[dict[str, Any]]]:
    modified = datetime(2026, 10, 31, tzinfo=UTC)
    for first in range(0, keys, FILE_KEYS):
        yield [
            {
                "bucket": "photographs",
                "key": f"images/2026/11/{number:012d} a name of usual length.jpg",
                "size": 150_000 + number,
                "last_modified_date": modified,
                "e_tag": f"{number:032x}",
                "storage_class": "STANDARD",
            }
            for number in range(first, min(first + FILE_KEYS, keys))
        ]


if __name__ == "__main__":
    main()
