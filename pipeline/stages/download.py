"""URI to encoded bytes, or why there are none."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import tenacity
from fsspec import AbstractFileSystem

from pipeline.cluster.client import Client
from pipeline.config import Config
from pipeline.errors import Code
from pipeline.inputs import access, references
from pipeline.inputs.listing import extension_of
from pipeline.stages.patience import Patience
from pipeline.store import failures, objects, web
from pipeline.store.failures import UriError

UNKNOWN_BYTES = 2**20
# endings of files that mostly can be read by ranges
WINDOWED = ("tif", "tiff", "svs", "btf")


@dataclass
class Fetched:
    """The outcome of one read: encoded bytes, or an error's code, message and stage.

    `is_unranged`: see `failures.is_unranged`.
    """

    data: bytes | None = None
    code: str | None = None
    message: str | None = None
    attempts: int = 0
    seconds: float = 0.0
    stage: str = "fetch"
    is_unranged: bool = False


class FetchError(Exception):
    """A read that failed for a reason of ours, with its code."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


def _throttled(state: tenacity.RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    return error is not None and failures.classify(error)[0] is Code.THROTTLED


class Downloader:
    """Reads objects, at most `config.fetch_concurrency` at once.

    Attributes:
        largest: bytes of the largest object so far, what to expect of one of unknown size.
    """

    def __init__(self, config: Config, client: Client) -> None:
        """
        Args:
            config: the run's.
            client: of the run's coordinator.
        """
        self.config = config
        self.client = client
        self.largest = UNKNOWN_BYTES
        self.slots = asyncio.Semaphore(config.fetch_concurrency)
        self.threads = ThreadPoolExecutor(config.fetch_concurrency)
        self.patience = Patience(config.fetch_attempts)

    async def read(
        self, uri: str, size: int | None, span: tuple[int, int] | None = None
    ) -> Fetched:
        """
        Args:
            uri: of the object; empty if the manifest has none.
            size: bytes, if it is known.
            span: start and end of the bytes to read; by default it is all of them.

        Returns:
            The outcome, whatever it is: nothing is raised.
        """
        outcome = Fetched()
        patience = self.patience.read(uri)
        started = time.monotonic()
        lengths: set[int] = set()
        try:
            async for attempt in tenacity.AsyncRetrying(
                stop=lambda state: patience.failed(_throttled(state)),
                wait=objects.RETRY_WAIT,
                retry=tenacity.retry_if_exception(lambda error: failures.classify(error)[1]),
                reraise=True,
            ):
                with attempt:
                    outcome.attempts += 1
                    self.client.add(reads=1)
                    async with self.slots, asyncio.timeout(self.config.fetch_timeout):
                        data = await (self._range(uri, *span) if span else self._read(uri, size))
                    # a body cut short looks like this; so does an object that was replaced since
                    # it was listed, but that is as long again the second time
                    if size is not None and len(data) != size and len(data) not in lengths:
                        lengths.add(len(data))
                        raise ConnectionError(f"{len(data)} bytes arrived, not {size}")
                    outcome.data = data
            patience.answered()
        except (FetchError, UriError) as error:
            outcome.code, outcome.message = error.code, str(error)
        # any failure of any file system is the outcome of its image, never of the run
        except Exception as error:
            self._fail(outcome, uri, error)
            if not failures.classify(error)[1]:
                patience.answered()
        outcome.seconds = time.monotonic() - started
        return outcome

    def _fail(self, outcome: Fetched, uri: str, error: Exception) -> None:
        outcome.code = failures.classify(error)[0]
        outcome.is_unranged = failures.is_unranged(error)
        outcome.message = failures.reason(error)
        if outcome.code in (Code.NOT_FOUND, Code.FORBIDDEN):  # the latter, too, of no rights
            outcome.message += references.hint(uri)
        self.look_for_refusal(error)

    def look_for_refusal(self, error: Exception) -> None:
        """End the run if the store refuses its credentials, which would fail every image."""
        if failures.rejects_credentials(error):
            self.client.fail(f"the store refuses the credentials: {failures.reason(error)}")

    async def _read(self, uri: str, size: int | None) -> bytes:
        limit = self.config.max_object_bytes
        fs, path = self._locate(uri)
        if size is not None and size > limit:
            message = f"{size} bytes; max_object_bytes is {limit}"
            if extension_of(uri) in WINDOWED and not self.config.tile:
                message += "; with --tile, a tiled TIFF is read in windows"
            raise FetchError(Code.OBJECT_TOO_LARGE, message)
        # without a known size, one byte past the limit shows that there is more
        span = {} if size is not None else {"start": 0, "end": limit + 1}
        too_large = FetchError(Code.OBJECT_TOO_LARGE, f"over max_object_bytes, which is {limit}")
        try:
            data = await self._cat(fs, path, **span)
        except web.Unranged as error:  # so there is more
            raise too_large from error
        if len(data) > limit:
            raise too_large
        self.largest = max(self.largest, len(data))
        return data

    async def _range(self, uri: str, start: int, end: int) -> bytes:
        if start >= end:  # which servers take for a wish of all
            return b""
        data = await self._cat(*self._locate(uri), start=start, end=end)
        # some servers answer with all of the object
        return data[start:end] if len(data) > end - start else data

    async def _cat(self, fs: AbstractFileSystem, path: str, **span: int) -> bytes:
        try:
            if fs.async_impl:
                return bytes(await fs._cat_file(path, **span))
            loop = asyncio.get_running_loop()
            return bytes(
                await loop.run_in_executor(self.threads, lambda: fs.cat_file(path, **span))
            )
        except Exception as error:
            if failures.http_status(error) == 416:  # the answer to any range behind the end
                return b""
            raise

    def _locate(self, uri: str) -> tuple[AbstractFileSystem, str]:
        if not uri:
            raise FetchError(Code.NO_URI, "the manifest has no URI in this row")
        return access.locate(
            uri,
            self.config.input,
            self.config.trust_uris,
            self.config.fetch_concurrency,
            self.config.reading,
        )
