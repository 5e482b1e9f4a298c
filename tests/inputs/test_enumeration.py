"""Each image once, in parts; a million of them must not grow the driver."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.config import Config
from pipeline.errors import RunError
from pipeline.inputs import enumeration
from pipeline.inputs.digests import Digested
from pipeline.inputs.source import Source
from pipeline.outputs.manifest import LISTED
from tests.support.listings import listed, uris

IMAGES = 1_000_000
LIMIT_MB = 200

# measured in a process of its own
PROGRAM = """
import bisect, sys
from pipeline.config import Config
from pipeline.inputs import enumeration, s3_listing
from pipeline.outputs.layout import Layout
import pyarrow.dataset, pyarrow.parquet

def name(n):
    return f"images/2026/11/{n:09d}-a-name-of-usual-length.jpg"

def page(fs, ContinuationToken="0", StartAfter="", **request):
    first = int(ContinuationToken)
    if StartAfter:
        first = bisect.bisect_right(range(IMAGES), StartAfter, key=name)
    keys = [{"Key": name(n), "Size": 150_000 + n,
             "ETag": '"%032x"' % n} for n in range(first, min(first + 1000, IMAGES))]
    following = {"IsTruncated": first + 1000 < IMAGES, "NextContinuationToken": str(first + 1000)}
    return {"Contents": keys} | following

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

IMAGES = int(sys.argv[1])
s3_listing.page = page
s3_listing.is_ordered = lambda fs, bucket: bucket == "of-amazon"
config = Config(input=sys.argv[2], output=sys.argv[3])
layout = Layout.of(config.output)
open("/proc/self/clear_refs", "w").write("5")  # forget the peak, which is the parent's
before = peak()
found = enumeration.write(config, layout, "")
assert found.rows == IMAGES, found
print((peak() - before) // 1024)
"""


def test_many_repetitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(enumeration, "LINE_SECONDS", 0)
    caplog.set_level(logging.INFO)
    numbers = np.random.default_rng(0).integers(0, 30_000, 100_000)
    pq.write_table(pa.table({"uri": [f"/{n}.jpg" for n in numbers]}), tmp_path / "t.parquet")
    first_seen = list(dict.fromkeys(f"/{n}.jpg" for n in numbers))
    table, found = listed(tmp_path, input=str(tmp_path / "t.parquet"))
    assert table["image_uri"].to_pylist() == first_seen
    assert found.duplicates == 100_000 - len(first_seen)
    for step in ("looking for repeated URIs", "listing the input"):
        assert f"{step}: 100,000 images so far" in caplog.text


def test_a_limit_does_not_read_all(tmp_path: Path) -> None:
    names = ["s3://a", "S3://a", "", "", "s3://a", "s3://b", "s3://b", "s3://c"]

    def read() -> Iterator[pa.Table]:
        for name in chain(names, map(str, count())):
            yield pa.table([[name], [1], [1]], schema=LISTED)

    source = Source(LISTED, read, may_repeat=True)
    for limit in (1, 3, 4, 6, 50):
        rows = enumeration.unique(source, limit, enumeration.Counted())
        found = [uri for table in rows for uri in table["image_uri"].to_pylist()]
        assert found == [*["s3://a", "", "", "s3://b", "s3://c"], *map(str, range(45))][:limit]


@pytest.mark.parametrize("images", [1_000, 100_000])
def test_no_room_for_temporary_files(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noticed by a write, or by the last ones when they leave memory."""
    monkeypatch.setattr("tempfile.TemporaryFile", partial(open, "/dev/full", "w+b"))
    uris = pa.chunked_array([[f"{number}.jpg" for number in range(images)]])
    told = rf"^cannot write to {tempfile.gettempdir()} \(No space left on device\); set TMPDIR to"
    with pytest.raises(RunError, match=told), Digested("row") as rows:
        rows.add(uris, np.arange(images))
        list(rows)


def test_parts(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("\n".join(f"/{n}.jpg" for n in range(5000)))
    options: dict[str, Any] = {"input": str(tmp_path / "t.txt"), "part_rows": 1024}
    assert uris(tmp_path, **options) == [f"/{n}.jpg" for n in range(5000)]
    # a later listing that finds less leaves nothing of an earlier one
    parts = tmp_path / "out" / "_run" / "manifest"
    assert len(list(parts.iterdir())) == 5
    (tmp_path / "t.txt").write_text("\n".join(f"/{n}.jpg" for n in range(1500)))
    assert len(uris(tmp_path, **options)) == 1500
    assert sorted(p.name for p in parts.iterdir()) == ["part-000000.parquet", "part-000001.parquet"]


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
@pytest.mark.parametrize("bucket", ["bucket", "of-amazon"])
def test_an_s3_prefix(tmp_path: Path, s3: object, bucket: str) -> None:
    """The pages are made up as S3 sends them, one after the other or many at once."""
    grown = growth_mb(f"s3://{bucket}/images/", tmp_path / "out")
    print(f"\n{IMAGES:,} keys of an S3 prefix, {bucket}: the driver grew by {grown} MB")
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


def test_images_of_equal_name(folder: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (10, 10), "white").save(buffer, "PNG")
    for place in ("a", "b"):
        (folder / place).mkdir()
        (folder / place / "same.png").write_bytes(buffer.getvalue())
    config = Config(input=f"{folder}/*/same.png", output=str(tmp_path / "out"))
    assert enumeration.count(config).rows == 2
