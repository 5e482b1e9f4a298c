"""Files of S3 Inventory, as S3 writes them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        ("bucket", pa.string()),
        ("key", pa.string()),
        ("version_id", pa.string()),
        ("is_latest", pa.bool_()),
        ("is_delete_marker", pa.bool_()),
        ("size", pa.int64()),
        ("last_modified_date", pa.timestamp("ms", "UTC")),
        ("e_tag", pa.string()),
        ("storage_class", pa.string()),
    ]
)
CSV_NAMES = dict(
    zip(
        SCHEMA.names,
        "Bucket Key VersionId IsLatest IsDeleteMarker Size LastModifiedDate ETag "
        "StorageClass".split(),
        strict=True,
    )
)


def encoded(rows: list[dict[str, Any]], kind: str) -> tuple[str, bytes]:
    """The `fileSchema` and the content of a file of rows, which all have the same columns."""
    schema = pa.schema([field for field in SCHEMA if field.name in rows[0]])
    table = pa.Table.from_pylist(rows, schema)
    buffer = io.BytesIO()
    if kind == "CSV":
        lines = (",".join(f'"{_text(name, row[name])}"' for name in schema.names) for row in rows)
        data = "".join(f"{line}\n" for line in lines).encode()
        return ", ".join(CSV_NAMES[name] for name in schema.names), gzip.compress(data)
    if kind == "ORC":
        orc.write_table(table, buffer, compression="zlib")
    else:
        pq.write_table(table, buffer, compression="snappy")
    return "of the file itself", buffer.getvalue()


def _text(name: str, value: Any) -> str:
    if name == "key":
        return quote_plus(value, safe="/")
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def publish(
    s3: Any,
    bucket: str,
    rows: Iterable[list[dict[str, Any]]],
    kind: str = "CSV",
    date: str = "2026-11-01T00-00Z",
    folder: str = "inventory/source/daily",
) -> str:
    """Write an inventory with a file for each list of rows into a bucket; its manifest's URL."""
    files, source = [], ""
    for number, part in enumerate(rows):
        schema, data = encoded(part, kind)
        source = part[0]["bucket"]
        key = f"{folder}/data/{date}-{number}.{'csv.gz' if kind == 'CSV' else kind.lower()}"
        s3.put_object(Bucket=bucket, Key=key, Body=data)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        files.append({"key": key, "size": len(data), "MD5checksum": md5})
    manifest = {
        "sourceBucket": source,
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "version": "2016-11-30",
        "creationTimestamp": "1793491200000",
        "fileFormat": kind,
        "fileSchema": schema,
        "files": files,
    }
    key = f"{folder}/{date}/manifest.json"
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(manifest).encode())
    return f"s3://{bucket}/{key}"
