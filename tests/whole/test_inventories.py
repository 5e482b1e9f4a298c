"""Runs over an S3 Inventory, and over the next one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pipeline import Config, run
from pipeline.labels.verify import verify
from tests.support import tiles
from tests.support.engines import PixelEngine
from tests.support.inventories import publish
from tests.support.outputs import rows


def test_the_same_command_a_week_later(cluster: None, s3: Any, bucket: str) -> None:
    """Names that must be decoded, an object that is gone, one that has come since."""

    def listed(names: list[str]) -> list[dict[str, Any]]:
        return [
            {"bucket": bucket, "key": name, "last_modified_date": datetime(2026, 11, 1, tzinfo=UTC)}
            for name in names
        ]

    names = [f"images/{number} + ü.png" for number in range(6)]
    for number, name in enumerate(names):
        s3.put_object(Bucket=bucket, Key=name, Body=tiles.tile(number))
    publish(s3, bucket, [listed([*names[:3], "images/"]), listed([*names[3:5], "images/gone.png"])])
    config = Config(
        input=f"s3://{bucket}/inventory/*/*/*/manifest.json",
        output=f"s3://{bucket}/out",
        weights="random:0",
        max_error_rate=1.0,
    )
    summary = run(config, PixelEngine)
    assert summary and summary.images == 6 and summary.errors == {"not_found": 1}
    publish(s3, bucket, [listed(names)], "Parquet", "2026-11-08T00-00Z")
    summary = run(config, PixelEngine, refresh=True)
    assert summary and summary.images == 7 and summary.processed == 1
    found = {row["image_uri"].rpartition("/")[2]: row["status"] for row in rows(config.output)}
    assert found == {name.removeprefix("images/"): "ok" for name in names} | {"gone.png": "error"}
    assert not verify(config.output).breaches
