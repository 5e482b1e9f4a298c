"""Rows of the manifest to encoded bytes or errors: many reads in flight, a row an image."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from functools import lru_cache
from typing import Any

import pyarrow as pa
import ray

from pipeline.cluster.client import Client
from pipeline.config import Config
from pipeline.outputs.manifest import MEMBER, Manifest
from pipeline.stages.download import Fetched
from pipeline.stages.reads import Read, Reads
from pipeline.stages.write import seen
from pipeline.store import urls
from pipeline.words import printable

# a table is handed on when it holds so many bytes, and no more than that is read ahead of it
TABLE_BYTES = 32 * 2**20
# between looks whether the run is to stop, while a read is waited for
LOOK_SECONDS = 0.5


class Fetch:
    """Ray Data stage: ranges of manifest rows in, rows with encoded bytes or an error out.

    Thread-safe: Ray calls it from several threads, so that a slow read at the end of one range
    does not stop the next; together they keep at most `config.fetch_concurrency` reads in flight.
    """

    def __init__(
        self,
        config: Config,
        manifest: Manifest,
        index: int,
        done: ray.ObjectRef[Any],
        client: Client,
    ) -> None:
        """
        Args:
            config: the run's.
            manifest: likewise.
            index: number of the slice.
            done: [rows of the slice] bool, the images that are finished.
            client: of the run's coordinator.
        """
        client.join()
        self.config = config
        self.manifest = manifest
        self.first_id = manifest.first_id(index)
        self.done = ray.get(done)
        self.client = client
        self.reads = Reads(config, client)
        # consecutive ranges share a part of the manifest
        self.part = lru_cache(maxsize=2)(self._part)
        client.ready()

    def __call__(self, ranges: pa.Table) -> Iterator[pa.Table]:
        """
        Args:
            ranges: columns `start` int64 (image id) and `rows` int64.

        Yields:
            Tables with the manifest's columns and `encoded` large_binary (null on error),
            `error_stage`, `error_code`, `error_message` string, `attempts` int32; in order of id.
            Once the run is told to stop, only what has been read by then.
        """
        for start, rows in zip(*(column.to_pylist() for column in ranges.columns), strict=True):
            if self.client.stopping:
                return
            yield from self._fetch(start, rows)

    def _part(self, number: int) -> pa.Table:
        table = self.manifest.read_part(seen(self.config.output), number)
        return table.drop_columns("object_version")

    def _fetch(self, start: int, rows: int) -> Iterator[pa.Table]:
        number, offset = self.manifest.place(start)
        table = self.part(number).slice(offset, rows)
        offset = start - self.first_id
        table = table.filter(pa.array(~self.done[offset : offset + table.num_rows]))
        ids, wholes = table["image_id"].to_pylist(), self._wholes(table)
        begun = self.client.begin(ids, wholes)
        if not begun:
            return
        if begun.suspicious or begun.condemned:
            for row, image_id in enumerate(ids):
                if self.client.stopping:
                    return
                whole = wholes[row] if wholes else None
                yield from self._fetch_alone(table.slice(row, 1), image_id, whole)
        else:
            yield from self._fetch_rows(table)
        self.client.end(ids)

    def _wholes(self, table: pa.Table) -> list[str]:
        """Where rows are regions, the URIs of the images that they are of."""
        return []

    def _fetch_alone(self, row: pa.Table, image_id: int, whole: str | None) -> Iterator[pa.Table]:
        """Fetch an image that may be the one that kills its process."""
        container = row["source_uri"][0].as_py() if "source_uri" in row.column_names else None
        file = whole or container or row["image_uri"][0].as_py()
        failure = self.client.begin_alone(image_id, file, whole)
        if failure:
            if self.client.in_doubt:
                shown = printable(urls.public(file), 200)
                self.client.broken(
                    f"most recently with one of {shown}: {failure.message}. If that file is the "
                    "cause, move it away; its images then become error rows"
                )
            yield self._rows(row, [Fetched(code=failure.code, message=failure.message)])
        else:
            yield from self._fetch_rows(row)
            self.client.end_alone(image_id)

    def _fetch_rows(self, table: pa.Table) -> Iterator[pa.Table]:
        first = size = 0
        fetched: list[Fetched] = []
        for outcome in self._in_order(self.reads.of(table)):
            fetched.append(outcome)
            size += len(outcome.data or b"")
            if size >= TABLE_BYTES:
                yield self._rows(table.slice(first, len(fetched)), fetched)
                first, size, fetched = first + len(fetched), 0, []
        if fetched:
            yield self._rows(table.slice(first, len(fetched)), fetched)

    def _rows(self, table: pa.Table, fetched: list[Fetched]) -> pa.Table:
        self.client.add(
            fetched=len(fetched),
            bytes_read=sum(len(f.data or b"") for f in fetched),
            seconds_fetch=sum(f.seconds for f in fetched),
        )
        columns = {
            "encoded": pa.array([f.data for f in fetched], pa.large_binary()),
            "error_stage": pa.array([f.stage if f.code else None for f in fetched], pa.string()),
            "error_code": pa.array([f.code for f in fetched], pa.string()),
            "error_message": pa.array([f.message for f in fetched], pa.string()),
            "attempts": pa.array([f.attempts for f in fetched], pa.int32()),
        }
        if "source_uri" in table.column_names:
            table = table.drop_columns(MEMBER.names)
        for name, column in columns.items():
            table = table.append_column(name, column)
        return table

    def _in_order(self, reads: Iterator[Read]) -> Iterator[Fetched]:
        """The outcomes of reads, of which as many are begun as may be in flight."""
        window: deque[Read] = deque()
        ahead = 0
        for read, expected in reads:
            window.append((read, expected))
            ahead += expected
            while window and (ahead > TABLE_BYTES or len(window) >= self.config.fetch_concurrency):
                read, expected = window.popleft()
                ahead -= expected
                yield from self._awaited(read)
        for read, _ in window:
            yield from self._awaited(read)

    def _awaited(self, read: Future[list[Fetched]]) -> Iterator[Fetched]:
        """What was read; nothing once the run is told to stop, however long the read would take."""
        while not self.client.stopping:
            with contextlib.suppress(TimeoutError):
                yield from read.result(timeout=LOOK_SECONDS)
                return
