"""Finished rows to Parquet files that appear whole, under the lease."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.cluster.client import Client
from pipeline.errors import RunError
from pipeline.outputs import lease
from pipeline.outputs.files import SUMMARY, FileName, encode
from pipeline.outputs.layout import Layout
from pipeline.outputs.schema import LARGE, STATUSES
from pipeline.store import failures, objects, urls


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
        for status, part in by_status(rows):
            name = write(self.destination, self.index, status, part)
            names = pa.array([str(name)] * part.num_rows, pa.string())
            summaries.append(part.select(SUMMARY).append_column("file", names))
        self.client.add(written=rows.num_rows, seconds_write=time.monotonic() - started)
        self.client.end(first)
        return pa.concat_tables(summaries)


def write(destination: Destination, index: int, status: str, rows: pa.Table) -> FileName:
    """Put a file of rows of one slice and status in place, under the lease.

    Args:
        destination: of the rows.
        index: number of the slice.
        status: of the rows.
        rows: with the columns of the destination's schema.

    Raises:
        LeaseLost: another run took over.
        RunError: the store takes no file, or this machine does not see the output.
    """
    layout, leased = seen(destination.output), Layout.of(destination.leased)

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


def by_status(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each status that is among them."""
    for status in (*STATUSES, LARGE):
        part = rows.filter(pc.equal(rows["status"], status))
        if part.num_rows:
            yield status, part


def seen(output: str) -> Layout:
    """The layout of a run's output, which a folder need not be on all machines of a cluster.

    Raises:
        RunError: this machine does not see it.
    """
    layout = Layout.of(output)
    try:
        if urls.is_local(layout.fs):
            objects.retrying(lambda: os.stat(layout.run))
    except FileNotFoundError as error:
        raise RunError(
            f"the machine {socket.gethostname()} of the cluster does not see {output}: give a URL, "
            "or a path on a disk that all of its machines see"
        ) from error
    return layout


def by_file(summary: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The rows of a `Writer`'s summary, file by file."""
    for name in pc.unique(summary["file"]).to_pylist():
        yield name, summary.filter(pc.equal(summary["file"], name)).select(SUMMARY)
