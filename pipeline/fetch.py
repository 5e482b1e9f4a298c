"""URI to encoded bytes, or an error: many reads in flight, each image's outcome in its row."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import fsspec.asyn
import pyarrow as pa
import ray
import tenacity
from fsspec import AbstractFileSystem

from pipeline import access, manifest, storage
from pipeline.client import Client
from pipeline.config import Config
from pipeline.patience import Patience

# a table is handed on when it holds so many bytes, and no more than that is read ahead of it
TABLE_BYTES = 32 * 2**20
UNKNOWN_BYTES = 2**20


@dataclass
class Fetched:
    """The outcome of one read: encoded bytes, or an error's code and message."""

    data: bytes | None = None
    code: str | None = None
    message: str | None = None
    attempts: int = 0
    seconds: float = 0.0


class FetchError(Exception):
    """A read that failed for a reason of ours, with its code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Fetch:
    """Ray Data stage: ranges of manifest rows in, rows with encoded bytes or an error out.

    Thread-safe: Ray calls it from several threads, so that a slow read at the end of one range
    does not stop the next; together they keep at most `config.fetch_concurrency` reads in flight.
    """

    def __init__(
        self,
        config: Config,
        run_folder: str,
        first_id: int,
        done: ray.ObjectRef,
        client: Client,
    ) -> None:
        """
        Args:
            config: the run's.
            run_folder: URL of `OUTPUT/_run`.
            first_id: of the slice.
            done: [rows of the slice] bool, the images that are finished.
            client: of the run's coordinator.
        """
        client.join()
        self.config = config
        self.run_folder = run_folder
        self.first_id = first_id
        self.done = ray.get(done)
        self.client = client
        self.largest = UNKNOWN_BYTES
        self.slots = asyncio.Semaphore(config.fetch_concurrency)
        self.threads = ThreadPoolExecutor(config.fetch_concurrency)
        self.patience = Patience(config.fetch_attempts)
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
            Nothing for ranges that were not begun when the run was told to stop.
        """
        for start, rows in zip(*(column.to_pylist() for column in ranges.columns), strict=True):
            if self.client.stopping:
                return
            yield from self._fetch(start, rows)

    def _part(self, number: int) -> pa.Table:
        fs, folder = storage.filesystem(self.run_folder)
        return manifest.read_part(fs, folder, number)

    def _fetch(self, start: int, rows: int) -> Iterator[pa.Table]:
        number, offset = divmod(start, manifest.PART_ROWS)
        table = self.part(number).slice(offset, rows)
        offset = start - self.first_id
        table = table.filter(pa.array(~self.done[offset : offset + table.num_rows]))
        ids = table["image_id"].to_pylist()
        begun = self.client.begin(ids)
        if not begun:
            return
        if begun.suspicious:
            for row, image_id in enumerate(ids):
                yield from self._fetch_alone(table.slice(row, 1), image_id)
        else:
            yield from self._fetch_rows(table)
        self.client.end(ids)

    def _fetch_alone(self, row: pa.Table, image_id: int) -> Iterator[pa.Table]:
        """Fetch an image that may be the one that kills its process."""
        verdict = self.client.begin_alone(image_id)
        if verdict:
            yield self._rows(row, [Fetched(code=verdict[1], message=verdict[2])])
        else:
            yield from self._fetch_rows(row)
            self.client.end_alone(image_id)

    def _fetch_rows(self, table: pa.Table) -> Iterator[pa.Table]:
        if "source_uri" in table.column_names:
            outcomes: Iterator[Fetched] = self._embedded(table)
        else:
            outcomes = self._objects(table)
        first = size = 0
        fetched: list[Fetched] = []
        for outcome in outcomes:
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
            "error_stage": pa.array(["fetch" if f.code else None for f in fetched], pa.string()),
            "error_code": pa.array([f.code for f in fetched], pa.string()),
            "error_message": pa.array([f.message for f in fetched], pa.string()),
            "attempts": pa.array([f.attempts for f in fetched], pa.int32()),
        }
        if "source_uri" in table.column_names:
            table = table.drop_columns(list(manifest.LOCATION))
        for name, column in columns.items():
            table = table.append_column(name, column)
        return table

    def _objects(self, table: pa.Table) -> Iterator[Fetched]:
        window: deque[tuple[Future[Fetched], int]] = deque()
        ahead = 0
        loop = fsspec.asyn.get_loop()
        uris = table["image_uri"].to_pylist()
        sizes = table["size_bytes"].to_pylist()
        for uri, size in zip(uris, sizes, strict=True):
            # where no size is known, it is taken to be that of the largest object so far
            expected = size or self.largest
            read = asyncio.run_coroutine_threadsafe(self._read_with_retries(uri, size), loop)
            window.append((read, expected))
            ahead += expected
            while window and (ahead > TABLE_BYTES or len(window) >= self.config.fetch_concurrency):
                read, expected = window.popleft()
                ahead -= expected
                yield read.result()
        for read, _ in window:
            yield read.result()

    async def _read_with_retries(self, uri: str, size: int | None) -> Fetched:
        outcome = Fetched()
        started = time.monotonic()
        lengths: set[int] = set()
        try:
            async for attempt in tenacity.AsyncRetrying(
                stop=lambda state: self.patience.ends(uri, state),
                wait=storage.RETRY_WAIT,
                retry=tenacity.retry_if_exception(lambda error: storage.classify(error)[1]),
                reraise=True,
            ):
                with attempt:
                    outcome.attempts += 1
                    self.client.add(reads=1)
                    async with self.slots, asyncio.timeout(self.config.fetch_timeout):
                        data = await self._read(uri, size)
                    # a body cut short looks like this; so does an object that was replaced since
                    # it was listed, but that is as long again the second time
                    if size is not None and len(data) != size and len(data) not in lengths:
                        lengths.add(len(data))
                        raise ConnectionError(f"{len(data)} bytes came of {size}")
                    outcome.data = data
            self.patience.answered(uri)
        except FetchError as error:
            outcome.code, outcome.message = error.code, str(error)
        # any failure of any file system is the outcome of its image, never of the run
        except Exception as error:
            (outcome.code, can_pass), outcome.message = (
                storage.classify(error),
                storage.explain(error),
            )
            if not can_pass:
                self.patience.answered(uri)
            if storage.rejects_credentials(error):  # but for what would fail every image
                self.client.fail(f"the store refuses the credentials: {outcome.message}")
        outcome.seconds = time.monotonic() - started
        return outcome

    async def _read(self, uri: str, size: int | None) -> bytes:
        limit = self.config.max_object_bytes
        fs, path = self._locate(uri)
        if size is not None and size > limit:
            raise FetchError("object_too_large", f"{size} bytes; max_object_bytes is {limit}")
        # without a known size, one byte past the limit shows that there is more
        span = {} if size is not None else {"start": 0, "end": limit + 1}
        try:
            if fs.async_impl:
                data = await fs._cat_file(path, **span)
            else:
                loop = asyncio.get_running_loop()
                data = await loop.run_in_executor(self.threads, lambda: fs.cat_file(path, **span))
        except Exception as error:
            if storage.http_status(error) == 416:  # the answer to any range of an empty object
                return b""
            raise
        if len(data) > limit:
            raise FetchError("object_too_large", f"over max_object_bytes, which is {limit}")
        self.largest = max(self.largest, len(data))
        return bytes(data)

    def _locate(self, uri: str) -> tuple[AbstractFileSystem, str]:
        if not uri:
            raise FetchError("no_uri", "the manifest has no URI in this row")
        try:
            return access.locate(
                uri, self.config.input, self.config.trust_uris, self.config.fetch_concurrency
            )
        except storage.UriError as error:
            raise FetchError(error.code, str(error)) from error

    def _embedded(self, table: pa.Table) -> Iterator[Fetched]:
        for place in table.select(list(manifest.LOCATION)).to_pylist():
            started = time.monotonic()
            outcome = Fetched(attempts=1)
            try:
                value = self._row_group(place["source_uri"], place["row_group"])[place["row"]]
                outcome.data = value.as_py()
                if outcome.data is None:
                    outcome.code, outcome.message = "no_bytes", "the bytes column is null here"
                elif len(outcome.data) > self.config.max_object_bytes:
                    outcome.data, outcome.code = None, "object_too_large"
                    outcome.message = f"over max_object_bytes, {self.config.max_object_bytes}"
            except Exception as error:  # as for objects: the outcome of its image
                outcome.code, outcome.message = storage.classify(error)[0], storage.explain(error)
            outcome.seconds = time.monotonic() - started
            yield outcome

    def _row_group(self, uri: str, group: int) -> pa.ChunkedArray:
        return manifest.row_group_bytes(uri, group, str(self.config.bytes_column))
