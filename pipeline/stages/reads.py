"""The reads that rows of the manifest need: one of each file, one of neighbours in a container."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import fsspec.asyn
import pyarrow as pa

from pipeline.cluster.client import Client
from pipeline.config import Config
from pipeline.errors import Code
from pipeline.inputs.containers import reading
from pipeline.inputs.containers.ranged import GAP
from pipeline.outputs.manifest import MEMBER
from pipeline.stages.download import Downloader, Fetched
from pipeline.stages.stored import REQUEST_BYTES, StoredImages
from pipeline.store import failures
from pipeline.store.failures import UriError

T = TypeVar("T")
# what will have been read of consecutive rows, and how many bytes are expected of it
Read = tuple[Future[list[Fetched]], int]
Row = dict[str, Any]
Span = tuple[int, int]


class Reads:
    """Begins reads; `Downloader` says how many of them are done at once."""

    def __init__(self, config: Config, client: Client) -> None:
        """
        Args:
            config: the run's.
            client: of the run's coordinator.
        """
        self.config = config
        self.client = client
        self.downloader = Downloader(config, client)
        self.limits = reading.Limits(
            config.max_object_bytes, config.max_pixels, config.fetch_timeout
        )
        self.stored = StoredImages(config, self.downloader)

    def of(self, table: pa.Table) -> Iterator[Read]:
        """The reads of rows in their order, each begun when it is asked for.

        Args:
            table: rows of the manifest.
        """
        if "source_uri" not in table.column_names:
            columns = (table[name].to_pylist() for name in ("image_uri", "size_bytes"))
            yield from map(self._object, *columns)
            return
        rows = table.select(["image_uri", "size_bytes", *MEMBER.names]).to_pylist()
        for group, span in self._groups(rows):
            if self.client.stopping:
                return
            if span:
                yield self._neighbours(group, *span)
            elif group[0]["source_uri"] is None:
                yield self._object(group[0]["image_uri"], group[0]["size_bytes"])
            else:
                yield self._member(group[0])

    def _object(self, uri: str, size: int | None) -> Read:
        async def read() -> list[Fetched]:
            # an image without tiles is read as a whole, or not at all
            large = await self.stored.large(uri, size) if self.config.tile else None
            return [large or await self.downloader.read(uri, size)]

        # where no size is known, it is taken to be that of the largest object so far
        return begun(read()), size or self.downloader.largest

    def _groups(self, rows: list[Row]) -> Iterator[tuple[list[Row], Span | None]]:
        """Neighbours that one request can read, with its span; each other row alone."""
        group: list[Row] = []
        whole: Span | None = None
        for row in rows:
            span = self._span(row)
            joined = None
            if group and span and whole and _same_container(group[0], row):
                joined = _joined(whole, span)
            if group and not joined:
                yield group, whole
                group = []
            group.append(row)
            whole = joined or span
        if group:
            yield group, whole

    def _span(self, row: Row) -> Span | None:
        """The range of its container that is to be read; None where it is read in another way."""
        kind = reading.SPANNED.get(row["source_kind"])
        if not kind or kind.size(row["source_place"]) > self.config.max_object_bytes:
            return None
        return kind.span(row["source_place"])

    def _neighbours(self, rows: list[Row], start: int, end: int) -> Read:
        """Members whose ranges lie side by side, by one request."""
        return begun(self._read_neighbours(rows, start, end)), end - start

    async def _read_neighbours(self, rows: list[Row], start: int, end: int) -> list[Fetched]:
        got = await self.downloader.read(rows[0]["source_uri"], end - start, (start, end))
        if got.data is None:
            return [Fetched(None, got.code, got.message, got.attempts, got.seconds) for _ in rows]
        return await asyncio.to_thread(self._cut, rows, got, start)

    def _cut(self, rows: list[Row], got: Fetched, start: int) -> list[Fetched]:
        assert got.data is not None
        outcomes = []
        for row in rows:
            kind = reading.SPANNED[row["source_kind"]]
            first, last = kind.span(row["source_place"])
            outcome = Fetched(attempts=got.attempts, seconds=got.seconds / len(rows))
            try:
                data = got.data[first - start : last - start]
                outcome.data = kind.image(row["source_place"], data)
            except Exception as error:  # also of a decompressor: the outcome of its image alone
                _failed(outcome, error)
            outcomes.append(outcome)
        return outcomes

    def _member(self, row: Row) -> Read:
        """One that is read by this thread: of a row group, a video, or what is decompressed."""
        config, started = self.config, time.monotonic()
        outcome = Fetched(attempts=1)
        try:
            found = self._read(row)
            if isinstance(found, str):
                return self._object(found, None)
            outcome.data = found
            if found is None:
                outcome.code = Code.NO_BYTES
                outcome.message = "the bytes column is null in this row"
            elif len(found) > config.max_object_bytes:
                outcome.data, outcome.code = None, Code.OBJECT_TOO_LARGE
                outcome.message = f"over max_object_bytes, which is {config.max_object_bytes}"
        except Exception as error:  # as for objects: the outcome of its image
            _failed(outcome, error)
            self.downloader.look_for_refusal(error)
        outcome.seconds = time.monotonic() - started
        future: Future[list[Fetched]] = Future()
        future.set_result([outcome])
        return future, len(outcome.data or b"")

    def _read(self, row: Row) -> bytes | str | None:
        config = self.config
        source, column, trusted = config.input, config.bytes_column, config.trust_uris
        return reading.read(row, source, column, self.limits, trusted, config.reading)


def _failed(outcome: Fetched, error: Exception) -> None:
    outcome.code = failures.classify(error)[0]
    outcome.message = str(error) if isinstance(error, UriError) else failures.reason(error)


def begun(read: Coroutine[Any, Any, T]) -> Future[T]:
    """A read that goes on by itself."""
    return asyncio.run_coroutine_threadsafe(read, fsspec.asyn.get_loop())


def _same_container(one: Row, other: Row) -> bool:
    names = ("source_uri", "source_kind")
    return all(one[name] == other[name] for name in names)


def _joined(whole: Span, span: Span) -> Span | None:
    """Both in one, if that is worth a request."""
    first, last = whole[0], max(whole[1], span[1])
    is_near = first <= span[0] <= whole[1] + GAP
    return (first, last) if is_near and last - first <= REQUEST_BYTES else None
