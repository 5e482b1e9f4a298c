"""Whole runs on a real Ray cluster: what goes in, what comes out, what a second run does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Config, UsageError, run
from tests.engines import PixelEngine
from tests.outputs import by_name, files, rows, tables


def fast(**options: Any) -> Config:
    return Config(weights="random:0", **options)


def test_s3_prefix_with_failures(cluster: None, s3: Any, bucket: str, photographs: dict[str, bytes]) -> None:
    for name, data in photographs.items():
        s3.put_object(Bucket=bucket, Key=f"images/{name}", Body=data)
    s3.put_object(Bucket=bucket, Key="images/deep/a b+c%2F?#ü.jpg", Body=photographs["rocket.jpg"])
    s3.put_object(Bucket=bucket, Key="images/zero.jpg", Body=b"")
    s3.put_object(Bucket=bucket, Key="images/page.jpg", Body=b"<html>not found</html>")
    s3.put_object(Bucket=bucket, Key="images/cut.png", Body=photographs["coffee.png"][:5000])
    s3.put_object(Bucket=bucket, Key="images/notes.txt", Body=b"no image")
    s3.put_object(Bucket=bucket, Key="images2/other.jpg", Body=photographs["rocket.jpg"])

    output = f"s3://{bucket}/labels"
    summary = run(fast(input=f"s3://{bucket}/images/", output=output), PixelEngine)
    assert summary
    found = by_name(output)
    assert summary.images == len(found) == len(rows(output)) == len(photographs) + 4
    assert summary.errors == {"truncated": 1, "empty": 1, "not_an_image": 1}
    assert summary.exit_code == 3
    assert found["zero.jpg"]["error_code"] == "empty"
    assert found["zero.jpg"]["detections"] is None
    assert found["page.jpg"]["error_stage"] == "decode"
    rocket = found["rocket.jpg"]
    assert (rocket["status"], rocket["width"], rocket["height"]) == ("ok", 640, 427)
    assert rocket["image_uri"] == f"s3://{bucket}/images/rocket.jpg"
    assert rocket["image_bytes"] == len(photographs["rocket.jpg"])
    assert found["a b+c%2F?#ü.jpg"]["detections"] == rocket["detections"]
    assert "_SUCCESS" in files(output)
    assert not any(path.endswith("lease.json") for path in files(output))
