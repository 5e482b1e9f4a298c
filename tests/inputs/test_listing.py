"""Listing a million images must not grow the driver: measured in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

IMAGES = 1_000_000
LIMIT_MB = 200

PROGRAM = """
import sys
from pipeline import listing, manifest, storage
from pipeline.config import Config
import pyarrow.dataset, pyarrow.parquet

def page(fs, ContinuationToken="0", **request):
    first = int(ContinuationToken)
    keys = [{"Key": f"images/2026/11/{n:09d}-a-name-of-usual-length.jpg", "Size": 150_000 + n,
             "ETag": '"%032x"' % n} for n in range(first, first + 1000)]
    following = {"IsTruncated": first + 1000 < IMAGES, "NextContinuationToken": str(first + 1000)}
    return {"Contents": keys} | following

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

IMAGES = int(sys.argv[1])
listing._s3_page = page
config = Config(input=sys.argv[2], output=sys.argv[3])
fs, folder = storage.filesystem(config.output)
open("/proc/self/clear_refs", "w").write("5")  # forget the peak, which is the parent's
before = peak()
found = manifest.write(config, fs, folder, "")
assert found.rows == IMAGES, found
print((peak() - before) // 1024)
"""


def growth_mb(source: str, output: Path) -> int:
    """Growth of the peak resident memory while the manifest is written."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(IMAGES), source, str(output)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.soak
def test_an_s3_prefix(tmp_path: Path, s3: object) -> None:
    """The pages are made up as S3 sends them; all behind them is real."""
    grown = growth_mb("s3://bucket/images/", tmp_path / "out")
    print(f"\n{IMAGES:,} keys of an S3 prefix: the driver grew by {grown} MB")
    assert grown < LIMIT_MB


@pytest.mark.soak
def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number in range(IMAGES):
        if number % 100_000 == 0:
            (folder / str(number)).mkdir(parents=True)
        name = f"{folder}/{number // 100_000 * 100_000}/{number:09d}-a-name-of-usual-length.jpg"
        os.close(os.open(name, os.O_CREAT))
    grown = growth_mb(str(folder), tmp_path / "out")
    print(f"\n{IMAGES:,} files of a folder: the driver grew by {grown} MB")
    assert grown < LIMIT_MB


@pytest.mark.soak
def test_a_table_with_repetitions(tmp_path: Path) -> None:
    with open(tmp_path / "list.txt", "w") as file:
        for number in range(IMAGES):
            file.write(f"s3://bucket/images/2026/11/{number:09d}-a-name-of-usual-length.jpg\n")
        file.write("s3://bucket/images/2026/11/000000000-a-name-of-usual-length.jpg\n")
    grown = growth_mb(str(tmp_path / "list.txt"), tmp_path / "out")
    print(f"\n{IMAGES:,} rows of a table: the driver grew by {grown} MB")
    assert grown < LIMIT_MB
