"""Reading an output back, without any code of the pipeline's."""

from __future__ import annotations

import io
import os
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq


def files(output: str) -> dict[str, bytes]:
    """Path below the output -> content, of every file there."""
    if output.startswith("s3://"):
        bucket, prefix = _bucket(output)
        return {
            entry.key.removeprefix(prefix): entry.get()["Body"].read()
            for entry in bucket.objects.filter(Prefix=prefix)
        }
    found = {}
    for folder, _, names in os.walk(output):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, output)] = file.read()
    return found


def committed(output: str) -> int:
    """Number of detections files in an output on S3 that may be changing, those of regions, too."""
    bucket, prefix = _bucket(output)
    places = (f"{prefix}detections/", f"{prefix}_run/windows/")
    keys = (entry.key for place in places for entry in bucket.objects.filter(Prefix=place))
    return sum(1 for key in keys if "/detections/" in key)


def _bucket(output: str) -> tuple[Any, str]:
    name, _, prefix = output.removeprefix("s3://").partition("/")
    return boto3.resource("s3").Bucket(name), f"{prefix}/"


def tables(output: str) -> dict[str, pa.Table]:
    """Path below the output -> table, of every detections file.

    Names that begin with a dot are of writes that a kill broke off; no reader takes them.
    """
    return {
        path: pq.ParquetFile(io.BytesIO(data)).read()
        for path, data in files(output).items()
        if path.startswith("detections/") and not os.path.basename(path).startswith(".")
    }


def rows(output: str) -> list[dict[str, Any]]:
    """All rows with their status, in order of id."""
    found = []
    for path, table in tables(output).items():
        status = path.split("status=")[1].split("/")[0]
        found += [row | {"status": status} for row in table.to_pylist()]
    return sorted(found, key=lambda row: int(row["image_id"]))


def by_name(output: str) -> dict[str, dict[str, Any]]:
    """The rows by the last part of their URI."""
    return {row["image_uri"].rsplit("/", 1)[-1]: row for row in rows(output)}
