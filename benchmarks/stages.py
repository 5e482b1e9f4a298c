"""Stages that stand in for reading, decoding and the network, so that only the rest is measured.

Every worker process imports them, so nothing here may import torch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipeline.cluster.client import Client
from pipeline.network.contract import Boxes, Engine, EngineFactory, Weights
from pipeline.outputs import schema
from pipeline.outputs.layout import Layout
from pipeline.stages.detect import Replica
from pipeline.stages.download import Fetched
from pipeline.stages.fetch import Fetch
from pipeline.stages.rows import detections_column

BOXES = 10
OBJECT_BYTES = 1000
# images with boxes of their own, more than a file holds: repeats would compress too well
DISTINCT = 10_000
# names of the files that tell when a stage was there
STARTED, FETCHED = "started", "fetched"
CATEGORIES = {1: "person", 2: "bicycle", 3: "car"}


class NullFetch(Fetch):
    """Reads the manifest and leaves out what is done; every object is of 1 KB and there at once."""

    content = bytes(OBJECT_BYTES)

    def _objects(self, table: pa.Table) -> Iterator[Fetched]:
        for _ in range(table.num_rows):
            yield Fetched(data=self.content, attempts=1)


class MarkingFetch(NullFetch):
    """Leaves files in `_run` at the start of its actor and at its first image.

    For an output on this machine, looked at by `marks`.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.folder = Path(Layout.of(self.config.output).run)
        (self.folder / STARTED).touch()

    def _objects(self, table: pa.Table) -> Iterator[Fetched]:
        first = self.folder / FETCHED
        if not first.exists():
            first.touch()
        return super()._objects(table)


def marks(layout: Layout) -> tuple[float, float]:
    """When a run's `MarkingFetch` started, and read its first image, as `time.time` tells it."""
    started, fetched = (Path(layout.run, name).stat().st_mtime for name in (STARTED, FETCHED))
    return started, fetched


class NullReplica:
    """Hands out rows with `BOXES` made-up boxes each.

    Made and called as `Detector` is, and it reports to the coordinator as that does; of what it is
    given it uses the client alone.
    """

    seconds_per_image = 0.0

    def __init__(
        self,
        replica: Replica,
        weights: ray.ObjectRef[Weights],
        make_engine: EngineFactory,
        client: Client,
    ) -> None:
        client.join()
        self.client = client
        self.forward_lock = threading.Lock()
        self.detections = detections_column(made_up(DISTINCT), CATEGORIES)
        client.ready()

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """One table, as `Detector` yields it."""
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


class TellingReplica(NullReplica):
    """Says in `model_id` which actor was done with an image, and when, by `time.time`."""

    def _table(self, rows: pa.Table) -> pa.Table:
        table = super()._table(rows)
        moment = constant(f"{self.client.actor} {time.time():.3f}", rows.num_rows)
        return table.set_column(table.schema.get_field_index("model_id"), "model_id", moment)


def sleeping(seconds: float) -> type[TellingReplica]:
    """A replica that sleeps so many seconds an image, as a GPU would compute."""

    class SleepingReplica(TellingReplica):
        seconds_per_image = seconds

    return SleepingReplica


def finished_rows(rows: pa.Table, detections: pa.Array) -> pa.Table:
    """The columns of `schema.ROW`, and `status`, of rows as `Fetch` yields them.

    Args:
        rows: at least one.
        detections: a `detections` column of `DISTINCT` images, more than there are rows.
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


def made_up(images: int) -> list[Boxes]:
    """`BOXES` random boxes for each image, the same ones on every call."""
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


def no_engine(weights: Weights, device: str, threads: int, precision: str) -> Engine:
    """The engine factory of a replica that has no engine."""
    raise NotImplementedError("a stand-in of the replica asks for an engine")
