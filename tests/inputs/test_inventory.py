"""Inventories of a real S3 server's objects, in each format that S3 writes."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec.asyn
import pytest

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import enumeration
from pipeline.inputs.difference import compare
from pipeline.outputs.layout import Layout
from pipeline.stages.download import Downloader
from tests.support.fetching import Silent
from tests.support.inventories import publish
from tests.support.listings import listed, uris

ODD = ["a b.jpg", "ü/é 1+1=2.jpg", "100%25.jpg", 'x&y "z",.jpg', "line\nend.jpg", "#?;~.JPG"]
MODIFIED = datetime(2026, 10, 31, tzinfo=UTC)


def objects(s3: Any, bucket: str, keys: list[str]) -> list[dict[str, Any]]:
    """Put objects, of which each holds its own key; returns the inventory's rows of them."""
    rows = []
    for key in keys:
        tag = s3.put_object(Bucket=bucket, Key=key, Body=key.encode())["ETag"].strip('"')
        rows.append(
            {
                "bucket": bucket,
                "key": key,
                "size": len(key.encode()),
                "last_modified_date": MODIFIED,
                "e_tag": tag,
                "storage_class": "STANDARD",
            }
        )
    return rows


@pytest.mark.parametrize("kind", ["CSV", "ORC", "Parquet"])
def test_odd_keys(s3: Any, bucket: str, tmp_path: Path, kind: str) -> None:
    """All are found in the inventory's order, as a listing has them, and can be read."""
    rows = objects(s3, bucket, [*ODD, "folder/", "notes.txt", "thumbs/a.jpg", "x/__MACOSX/b.jpg"])
    url = publish(s3, bucket, [rows[:3], rows[3:]], kind)
    options: dict[str, Any] = {"exclude": ["thumbs/**"]}
    table, found = listed(tmp_path, input=url, **options)
    assert table["image_uri"].to_pylist() == [f"s3://{bucket}/{key}" for key in ODD]
    whole, _ = listed(tmp_path / "listing", input=f"s3://{bucket}", **options)
    columns = ["image_uri", "size_bytes", "object_version"]
    alone, _ = listed(tmp_path / "alone", input=url, include=["thumbs/**"])
    assert alone["image_uri"].to_pylist() == [f"s3://{bucket}/thumbs/a.jpg"]
    by_uri = {row["image_uri"]: row for row in whole.select(columns).to_pylist()}
    assert table.select(columns).to_pylist() == [by_uri[f"s3://{bucket}/{key}"] for key in ODD]
    if kind == "CSV":
        downloader = Downloader(Config(input=url, output="out"), Silent())  # type: ignore[arg-type]
        for key, row in zip(ODD, table.to_pylist(), strict=True):
            read = downloader.read(row["image_uri"], row["size_bytes"])
            loop = fsspec.asyn.get_loop()
            outcome = asyncio.run_coroutine_threadsafe(read, loop).result()
            assert outcome.data == key.encode(), outcome


@pytest.mark.parametrize("kind", ["CSV", "ORC", "Parquet"])
def test_versions(
    s3: Any, bucket: str, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def row(key: str, number: int, latest: bool, deleted: bool = False) -> dict[str, Any]:
        size = None if deleted else number
        return {
            "bucket": "photographs",
            "key": key,
            "version_id": f"v{number}",
            "is_latest": latest,
            "is_delete_marker": deleted,
            "size": size,
            "last_modified_date": MODIFIED,
        }

    rows = [row("a.jpg", 1, False), row("a.jpg", 2, True), row("b.jpg", 3, False)]
    rows += [row("b.jpg", 4, True, True), row("c.jpg", 5, True), row("c.jpg", 5, True)]
    url = publish(s3, bucket, [rows], kind)
    caplog.set_level("INFO")
    table, found = listed(tmp_path, input=url)
    assert table["image_uri"].to_pylist() == ["s3://photographs/a.jpg", "s3://photographs/c.jpg"]
    assert table["size_bytes"].to_pylist() == [2, 5]
    assert found.duplicates == 1 and len(set(table["object_version"].to_pylist())) == 1
    assert "passed over 3 files: 2 older versions, 1 delete marker" in caplog.text
    without = [{k: v for k, v in row.items() if k != "is_latest"} for row in rows]
    with pytest.raises(UsageError, match="but not which is the latest"):
        listed(tmp_path, input=publish(s3, bucket, [without], kind))


def test_a_newer_inventory(s3: Any, bucket: str, tmp_path: Path) -> None:
    """A glob means the newest one, so the same command finds what has come since."""
    rows = objects(s3, bucket, ["a.jpg", "b.jpg", "c.jpg"])
    publish(s3, bucket, [rows])
    url = f"s3://{bucket}/inventory/source/daily/*/manifest.json"
    config = Config(input=url, output=str(tmp_path / "out"))
    layout = Layout.of(config.output)
    known = enumeration.write(config, layout, "")
    changed = rows[1] | {"e_tag": "0" * 32}
    publish(s3, bucket, [[rows[0], changed], objects(s3, bucket, ["d.jpg"])], "ORC", "2026-11-08T")
    found = compare(config, layout, known, tmp_path)
    assert found.counts() == {"new": 1, "changed": 1, "gone": 1}
    publish(s3, bucket, [rows], folder="inventory/source/weekly")
    assert len(uris(tmp_path, input=url)) == 3
    with pytest.raises(UsageError, match="matches several inventories"):
        listed(tmp_path, input=f"s3://{bucket}/**/manifest.json")


def test_what_is_not_as_the_manifest_says(s3: Any, bucket: str, tmp_path: Path) -> None:
    def complaint(**options: Any) -> str:
        with pytest.raises(UsageError) as error:
            listed(tmp_path, **options)
        return str(error.value)

    url = publish(s3, bucket, [objects(s3, bucket, ["a.jpg"])])
    key = url.removeprefix(f"s3://{bucket}/")
    manifest = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    copy = tmp_path / "manifest.json"
    copy.write_text(json.dumps(manifest))
    # wherever the manifest is, its files are in the bucket that it names
    assert uris(tmp_path, input=str(copy)) == [f"s3://{bucket}/a.jpg"]
    assert "carry needs" in complaint(input=url, carry=["key"])
    data = manifest["files"][0]["key"]
    s3.put_object(Bucket=bucket, Key=data, Body=b"another")
    assert "its MD5 checksum is" in complaint(input=url)
    s3.delete_object(Bucket=bucket, Key=data)
    assert f"cannot read s3://{bucket}/{data}: it does not exist" in complaint(input=url)
    copy.write_text(json.dumps(manifest | {"fileFormat": "Avro"}))
    assert "belongs to an inventory in avro" in complaint(input=str(copy))
    copy.write_text(json.dumps(manifest | {"files": [{"key": "x"}]}))
    assert "is not a manifest of an S3 Inventory: KeyError('size')" in complaint(input=str(copy))
    s3.put_object(Bucket=bucket, Key=data, Body=gzip.compress(b""))
    empty = {"key": data, "size": 20, "MD5checksum": hashlib.md5(gzip.compress(b"")).hexdigest()}
    copy.write_text(json.dumps(manifest | {"files": [empty]}))
    assert "no images under" in complaint(input=str(copy))
    # any other list of that name is one of URIs
    copy.write_text('["s3://bucket/a.jpg"]')
    assert uris(tmp_path, input=str(copy)) == ["s3://bucket/a.jpg"]
