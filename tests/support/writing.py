"""Files of detections as the last stage writes them, without a run around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.outputs import schema
from pipeline.outputs.schema import DETECTION, ROW
from pipeline.stages.write import Destination, Writer
from tests.support.fetching import Silent

SCHEMA = schema.with_carried(pa.schema([]), {})


def leased(folder: Path, token: str = "mine") -> str:
    """An output in this folder whose lease is held, by `write` unless the token is another."""
    (folder / "_run").mkdir(exist_ok=True)
    (folder / "_run/lease.json").write_text(f'{{"token": "{token}"}}')
    return str(folder)


def finished_rows(ids: Sequence[int], failed: Sequence[int] = ()) -> pa.Table:
    """Rows as a replica hands them on, each with one box unless it failed."""
    box = {"label_id": 1, "label": "x", "score": 0.5, "xmin": 0, "ymin": 0, "xmax": 1, "ymax": 1}
    ok = [number not in failed for number in ids]
    values: dict[str, Any] = {
        "image_id": ids,
        "image_uri": [f"/{number}.jpg" for number in ids],
        "detections": pa.array([[box] if good else None for good in ok], pa.list_(DETECTION)),
        "num_detections": [1 if good else None for good in ok],
        "model_id": ["m"] * len(ids),
        "run_id": ["r"] * len(ids),
        "error_code": [None if good else "truncated" for good in ok],
    }
    nulls = pa.nulls(len(ids))
    table = pa.table([values.get(name, nulls) for name in ROW.names], schema=ROW)
    return table.append_column("status", pa.array(["ok" if good else "error" for good in ok]))


def write(
    output: str, ids: Sequence[int], failed: Sequence[int] = (), attempt: int = 1, index: int = 0
) -> pa.Table:
    """Write rows by a stage that holds the lease; returns its summary."""
    destination = Destination(output, output, attempt, "mine", SCHEMA)
    writer = Writer(destination, index, Silent())  # type: ignore[arg-type]
    return writer(finished_rows(ids, failed))
