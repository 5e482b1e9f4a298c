"""Outputs that version 0.1.0 began: this one reads them, and goes on with them.

They lie in `tests/data/before_rooms`; its README says how they were made.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline import Config, Summary, run
from pipeline.labels.output import open_output
from pipeline.labels.verify import verify
from pipeline.outputs.manifest import PART_ROWS, SLICE_ROWS
from tests.support import tiles
from tests.support.engines import PixelEngine
from tests.support.outputs import files, rows
from tests.support.runs import SMALL, told

DATA = Path(__file__).parents[1] / "data" / "before_rooms"
BUCKET = "before-rooms"
IMAGES = 40
FAILED = {7: "not_an_image", 21: "truncated"}


@pytest.fixture(scope="module")
def bucket(s3: Any) -> str:
    s3.create_bucket(Bucket=BUCKET)
    return BUCKET


@pytest.fixture
def source(s3: Any, bucket: str) -> str:
    """The input as it was when the outputs were made."""
    url = tiles.upload(s3, bucket, range(IMAGES))
    put(s3, 7, b"no image")
    put(s3, 21, tiles.tile(21)[:200])
    s3.delete_object(Bucket=bucket, Key=f"images/{tiles.name(IMAGES)}")
    return url


def put(s3: Any, number: int, data: bytes) -> None:
    s3.put_object(Bucket=BUCKET, Key=f"images/{tiles.name(number)}", Body=data)


def copied(name: str, tmp_path: Path) -> str:
    return str(shutil.copytree(DATA / name, tmp_path / "out"))


def go(source: str, output: str, refresh: bool = False) -> Summary:
    config = Config(
        input=source,
        output=output,
        weights="random:0",
        model=SMALL,
        max_error_rate=1.0,
        micro_batch=4,
        rows_per_file=8,
    )
    summary = run(config, PixelEngine, refresh=refresh)
    assert summary
    return summary


def manifest(output: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(files(output)["_run/manifest.json"])
    return content


def test_a_run_that_was_killed(
    cluster: None, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = copied("halfway", tmp_path)
    before, kept = files(output), len(rows(output))
    found = told(capsys, output)
    assert (found["status"], found["images"], found["written"]) == ("stopped", IMAGES, kept)
    assert 0 < kept < IMAGES

    summary = go(source, output)
    assert (summary.processed, summary.images) == (IMAGES - kept, IMAGES)
    tiles.check_complete(output, IMAGES, FAILED)
    after = files(output)
    changed = {name for name, data in before.items() if after.get(name) != data}
    assert changed == {"_run/run.json"}
    record = json.loads(after["_run/run.json"])
    assert record["run_id"] == json.loads(before["_run/run.json"])["run_id"]
    assert len(record["attempts"]) == 2 and {row["run_id"] for row in rows(output)} == {
        record["run_id"]
    }
    assert not verify(output).breaches


def test_a_finished_run(
    source: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = copied("finished", tmp_path)
    before = files(output)
    assert "part_rows" not in manifest(output) and "slice_rows" not in manifest(output)
    with caplog.at_level(logging.INFO):
        summary = go(source, output)
    assert "complete already; nothing to do" in caplog.text
    assert (summary.processed, summary.images) == (0, IMAGES)
    assert summary.errors == dict.fromkeys(FAILED.values(), 1)
    assert told(capsys, output)["status"] == "complete"

    found = verify(output)
    assert (found.breaches, found.images, found.files) == (0, IMAGES, 5)
    opened = open_output(output)
    assert (opened.manifest.part_rows, opened.manifest.slice_rows) == (PART_ROWS, SLICE_ROWS)
    read = [row for table in opened.tables(["image_id", "status"]) for row in table.to_pylist()]
    assert read == [
        {"image_id": number, "status": "error" if number in FAILED else "ok"}
        for number in range(IMAGES)
    ]
    tiles.check_complete(output, IMAGES, FAILED)
    assert files(output) == before


def test_a_retry_and_then_a_refresh(
    cluster: None, s3: Any, source: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = copied("finished", tmp_path)
    before = files(output)
    for number in FAILED:
        put(s3, number, tiles.tile(number))
    summary = go(f"{output}/detections/status=error", output)
    assert (summary.processed, summary.errors) == (len(FAILED), {})
    tiles.check_complete(output, IMAGES)
    after = files(output)
    assert {name: after[name] for name in before if "status=ok" in name} == {
        name: data for name, data in before.items() if "status=ok" in name
    }
    assert not verify(output).breaches

    put(s3, IMAGES, tiles.tile(IMAGES))
    with caplog.at_level(logging.INFO):
        summary = go(source, output, refresh=True)
    # the listing of 0.1.0 had the two images that were mended as they were before
    assert f"1 new, {len(FAILED)} changed, 0 gone of {IMAGES} images" in caplog.text
    assert (summary.processed, summary.images) == (1 + len(FAILED), IMAGES + 1)
    tiles.check_complete(output, IMAGES + 1)
    now = manifest(output)
    assert (now["rows"], now["part_rows"], now["slice_rows"]) == (
        IMAGES + 1,
        PART_ROWS,
        SLICE_ROWS,
    )
    assert not verify(output).breaches
