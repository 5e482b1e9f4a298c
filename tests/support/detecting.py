"""A detect stage in this process, without a run around it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from PIL import Image

from pipeline import Config
from pipeline.network.contract import EngineFactory, Weights
from pipeline.outputs.schema import ROW
from pipeline.stages.detect import Detector, Replica
from pipeline.stages.regions import REGION
from tests.support.fetching import Silent


def detector(
    weights: ray.ObjectRef[Weights], engine: EngineFactory, micro_batch: int = 4, **options: Any
) -> Detector:
    """A replica's, for a run with these options."""
    config = Config(input="i", output="o", **options)
    replica = Replica(config, "cpu", 2, micro_batch, "a-run")
    return Detector(replica, weights, engine, Silent())  # type: ignore[arg-type]


def rows_of(encoded: Sequence[bytes | None]) -> pa.Table:
    """As `Fetch` yields them; None is a failed read. They carry a column called as a region's."""
    count = len(encoded)
    failed = [data is None for data in encoded]
    return pa.table(
        {
            "image_id": pa.array(range(count), pa.int64()),
            "image_uri": [f"/{number}.png" for number in range(count)],
            "size_bytes": pa.nulls(count, pa.int64()),
            REGION: ["north"] * count,
            "encoded": pa.array(encoded, pa.large_binary()),
            "error_stage": ["fetch" if f else None for f in failed],
            "error_code": ["not_found" if f else None for f in failed],
            "error_message": ["gone" if f else None for f in failed],
            "attempts": pa.array([1] * count, pa.int32()),
        }
    )


def png(pixels: np.ndarray, **options: Any) -> bytes:
    """An encoded image, with options of Pillow's."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def detect(stage: Detector, encoded: Sequence[bytes | None]) -> list[dict[str, Any]]:
    """The rows of a batch, in its order and with all columns."""
    (table,) = stage(rows_of(encoded))
    assert table.schema.names == [*ROW.names, "status", REGION]
    assert table.select(ROW.names).schema == ROW
    found: list[dict[str, Any]] = table.to_pylist()
    assert [row["image_id"] for row in found] == list(range(len(encoded)))
    return found
