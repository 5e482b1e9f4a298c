"""Stages that stand in for reading, decoding and the network, so that only the rest is measured.

They are imported by every worker process, so nothing here may import torch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.cluster.client import Client
from pipeline.outputs import schema
from pipeline.stages.download import Fetched
from pipeline.stages.fetch import Fetch
from pipeline.stages.rows import detections_column

BOXES = 10
PHOTOGRAPH_BYTES = 256_000
OBJECT_BYTES = 1000
# images with boxes of their own, more than a file holds: repeats would compress too well
DISTINCT = 10_000
CATEGORIES = {1: "person", 2: "bicycle", 3: "car"}


@dataclass
class Boxes:
    """What `pipeline.engine.Boxes` holds."""

    xyxy: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class NullFetch(Fetch):
    """Reads the manifest and leaves out what is done; every object is of 1 KB and there at once."""

    content = bytes(OBJECT_BYTES)

    def _objects(self, table: pa.Table) -> Iterator[Fetched]:
        for _ in range(table.num_rows):
            yield Fetched(data=self.content, attempts=1)


class MarkingFetch(NullFetch):
    """Leaves files in `_run` at the start of its actor and at its first image."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        Path(self.run_folder, "started").touch()

    def _objects(self, table: pa.Table) -> Iterator[Fetched]:
        if not Path(self.run_folder, "fetched").exists():
            Path(self.run_folder, "fetched").touch()
        return super()._objects(table)


class NullReplica:
    """Hands out rows with `BOXES` made-up boxes each.

    It reports to the coordinator as `pipeline.detector.Detector` does, and ignores what else the
    chain gives it.
    """

    seconds_per_image = 0.0

    def __init__(self, *arguments: Any) -> None:
        self.client = next(a for a in arguments if isinstance(a, Client))
        self.client.join()
        self.forward_lock = threading.Lock()
        self.detections = detections_column(made_up(DISTINCT), CATEGORIES)
        self.client.ready()

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """One table as `pipeline.detector.Detector` yields it."""
        ids = rows["image_id"].to_pylist()
        if self.client.begin(ids) is None:
            return
        with self.forward_lock:  # as on a GPU: one call computes, the other one has its rows ready
            time.sleep(self.seconds_per_image * rows.num_rows)
        self.client.add(images=rows.num_rows)
        yield self._table(rows)
        self.client.end(ids)

    def _table(self, rows: pa.Table) -> pa.Table:
        return finished_rows(rows, self.detections)


class SleepingReplica(NullReplica):
    """Sleeps as a GPU would compute; says in `model_id` which actor was done when."""

    seconds_per_image = 0.008

    def _table(self, rows: pa.Table) -> pa.Table:
        table = super()._table(rows)
        moment = constant(f"{self.client.actor} {time.time():.3f}", rows.num_rows)
        return table.set_column(table.schema.get_field_index("model_id"), "model_id", moment)


def finished_rows(rows: pa.Table, detections: pa.Array) -> pa.Table:
    """The columns of `schema.ROW`, and `status`, of rows as `Fetch` yields them.

    Args:
        detections: of `DISTINCT` images, more than there are rows.
    """
    n = rows.num_rows
    first = rows["image_id"][0].as_py() % (DISTINCT - n)
    columns = {
        "image_id": rows["image_id"],
        "image_uri": rows["image_uri"],
        "image_bytes": pc.binary_length(rows["encoded"]),
        "width": constant(640, n),
        "height": constant(480, n),
        "detections": detections.slice(first, n),
        "num_detections": constant(BOXES, n),
        "model_id": constant("null", n),
        "run_id": constant("0" * 32, n),
        **{name: rows[name] for name in ("error_stage", "error_code", "error_message")},
        "attempts": rows["attempts"],
    }
    table = pa.table({name: columns[name] for name in schema.ROW.names}, schema=schema.ROW)
    return table.append_column("status", constant("ok", n))


def made_up(images: int) -> list[Any]:
    """Random boxes, the same ones on every call."""
    random = np.random.default_rng(0)
    corners = np.sort(random.uniform(0, 480, (images, BOXES, 2, 2)), axis=2).astype(np.float32)
    labels = random.integers(1, 1 + len(CATEGORIES), (images, BOXES))
    scores = np.sort(random.random((images, BOXES), np.float32))[:, ::-1]
    found = zip(corners.reshape(images, BOXES, 4), labels, scores, strict=True)
    return [Boxes(*values) for values in found]


def constant(value: Any, rows: int) -> pa.Array:
    """A column of one value; a whole number as int32."""
    kind = pa.int32() if isinstance(value, int) else pa.string()
    return pa.repeat(pa.scalar(value, kind), rows)


def install(fetch: type, replica: type, object_bytes: int) -> None:
    """Put these into the chain of this process, in the places of the real ones.

    Blocks shrink as the objects do, so that a run has as many of them as with real photographs.
    """
    from pipeline.driver import attempt
    from pipeline.stages import chain  # which import torch

    attempt.sizes.mean_bytes = lambda *_: object_bytes
    chain.BLOCK_BYTES //= PHOTOGRAPH_BYTES // object_bytes
    chain.Fetch = fetch  # type: ignore[misc,assignment]
    chain.Detector = replica  # type: ignore[misc,assignment]
    # what a replica is told would bring torch into its process
    chain.Replica = lambda *arguments, **fields: None  # type: ignore[misc,assignment]


def no_engine(*arguments: Any) -> Any:
    """The engine factory of a replica that has no engine."""
