"""Finished rows to Parquet files that appear whole, under the lease."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.cluster.client import Client
from pipeline.errors import RunError
from pipeline.outputs import lease
from pipeline.outputs.files import SUMMARY, FileName, encode
from pipeline.outputs.layout import Layout
from pipeline.outputs.schema import LARGE, STATUSES
from pipeline.store import failures, objects


@dataclass(frozen=True)
class Destination:
    """Where the rows of an attempt go.

    Attributes:
        output: URL of the output.
        leased: URL of the output whose lease is held.
        attempt: number of the attempt, part of each file's name.
        token: the lease without which nothing is written.
        schema: of the files.
    """

    output: str
    leased: str
    attempt: int
    token: str
    schema: pa.Schema


class Writer:
    """Ray Data stage: finished rows in, a summary of what was committed out. Thread-safe.

    An actor, for it must be up when a run that is told to stop has little time left.
    """

    def __init__(self, destination: Destination, index: int, client: Client) -> None:
        """
        Args:
            destination: of the rows.
            index: number of the slice, part of each file's name.
            client: of the run's coordinator.
        """
        client.join()
        self.destination = destination
        self.index = index
        self.client = client
        self.layout = Layout.of(destination.output)
        client.ready()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Write a file for each status.

        Returns:
            `SUMMARY`'s columns of the rows, and `file`, each row's path below `detections/`.

        Raises:
            LeaseLost: another run took over.
            RunError: the store takes no file.
        """
        started = time.monotonic()
        first = [pc.min(rows["image_id"]).as_py()]
        self.client.begin(first)
        summaries = []
        for status in (*STATUSES, LARGE):
            part = rows.filter(pc.equal(rows["status"], status))
            if part.num_rows:
                name = write(self.layout, self.destination, self.index, status, part)
                names = pa.array([str(name)] * part.num_rows, pa.string())
                summaries.append(part.select(SUMMARY).append_column("file", names))
        self.client.add(written=rows.num_rows, seconds_write=time.monotonic() - started)
        self.client.end(first)
        return pa.concat_tables(summaries)


def write(
    layout: Layout, destination: Destination, index: int, status: str, rows: pa.Table
) -> FileName:
    """Put a file of rows of one slice and status in place, under the lease.

    Args:
        layout: of the destination's output.
        destination: of the rows.
        index: number of the slice.
        status: of the rows.
        rows: with the columns of the destination's schema.

    Raises:
        LeaseLost: another run took over.
        RunError: the store takes no file.
    """
    leased = Layout.of(destination.leased)

    def check() -> None:
        lease.check_open(leased, destination.token)

    first = pc.min(rows["image_id"]).as_py()
    name = FileName.new(status, index, destination.attempt, first)
    path = f"{layout.detections}/{name}"
    try:
        objects.put(layout.fs, path, encode(rows, destination.schema), check)
    except OSError as error:
        url = layout.url_of(path)
        raise RunError(str(failures.unusable("write", url, error))) from error
    return name


def by_file(summary: pa.Table) -> Iterable[tuple[str, pa.Table]]:
    """The rows of a `Writer`'s summary, file by file."""
    for name in pc.unique(summary["file"]).to_pylist():
        yield name, summary.filter(pc.equal(summary["file"], name)).select(SUMMARY)
