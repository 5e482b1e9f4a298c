"""TIFFs read by ranges: how they are stored, and what is stored of a region."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.config import IMAGE_EXTENSIONS, Config
from pipeline.errors import Code
from pipeline.images.errors import DecodeError
from pipeline.images.tiff_header import ReadRange, read_stored
from pipeline.images.tiff_overviews import Overview, read_overviews
from pipeline.images.tiff_regions import Range, Region, StoredImage
from pipeline.inputs.containers.ranged import GAP
from pipeline.inputs.listing import extension_of
from pipeline.outputs.schema import LARGE
from pipeline.stages.download import WINDOWED, Downloader, Fetched
from pipeline.words import explain

T = TypeVar("T")

# of one request for what lies side by side, at most, but for a single member, strip or tile
REQUEST_BYTES = 8 * 2**20
# headers read at once, each of up to tens of megabytes; and how many of them are kept
HEADERS, KEPT = 8, 4
OTHER_FORMATS = set(IMAGE_EXTENSIONS) - set(WINDOWED)


class Unread(Exception):
    """A range that could not be read, with the outcome of the read."""

    def __init__(self, outcome: Fetched) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


class StoredImages:
    """Reads TIFFs by ranges, through a downloader."""

    def __init__(self, config: Config, downloader: Downloader) -> None:
        """
        Args:
            config: the run's.
            downloader: whose limits hold for each range.
        """
        self.config = config
        self.downloader = downloader
        self.threads = ThreadPoolExecutor(HEADERS)
        self.kept: OrderedDict[tuple[str, int], asyncio.Task[StoredImage | None]] = OrderedDict()

    async def header(self, uri: str, size: int | None, directory: int = 0) -> StoredImage | None:
        """How an image is stored; None if it is no TIFF.

        Args:
            uri: of the image.
            size: of its file in bytes, if it is known.
            directory: see `read_stored`.

        Raises:
            Unread: it could not be read.
            DecodeError: see `read_stored`; or its header is damaged in a way of its own.
        """
        return await self._of_ranges(uri, size, lambda read: read_stored(read, directory))

    async def of_overviews(
        self,
        uri: str,
        size: int | None,
        stored: StoredImage,
        use: Callable[[Iterable[Overview]], T],
    ) -> T:
        """What is made of the overviews of an image, see `read_overviews`, on a thread.

        Raises:
            Unread: it could not be read.
        """
        return await self._of_ranges(uri, size, lambda read: use(read_overviews(read, stored)))

    async def _of_ranges(self, uri: str, size: int | None, use: Callable[[ReadRange], T]) -> T:
        """What is made of ranges of a file, on a thread."""
        loop = asyncio.get_running_loop()

        def read(start: int, end: int) -> bytes:
            if size is not None and start >= size:
                return b""
            expected = None if size is None else min(end, size) - start
            reading = self.downloader.read(uri, expected, (start, end))
            got = asyncio.run_coroutine_threadsafe(reading, loop).result()
            if got.data is None:
                raise Unread(got)
            return got.data

        try:
            return await loop.run_in_executor(self.threads, use, read)
        except (Unread, DecodeError):
            raise
        except Exception as error:  # as of an object: the outcome of its image, never of the run
            message = f"a TIFF that cannot be read in windows: {explain(error)}"
            raise DecodeError(Code.CORRUPT, message) from error

    async def large(self, uri: str, size: int | None) -> Fetched | None:
        """The outcome of an image that is read in windows, or of the look whether it is; None for
        all others.
        """
        if extension_of(uri) in OTHER_FORMATS or not uri:
            return None
        try:
            stored = await self.header(uri, size)
        except DecodeError as error:
            if size and size > self.config.max_object_bytes:
                return Fetched(None, error.code, str(error), attempts=1, stage="decode")
            return None  # whoever reads the whole says so
        except Unread as error:
            # the whole can still be read, unless it is too large
            return None if error.outcome.is_unranged else error.outcome
        if not stored:
            return None
        is_large = stored.width * stored.height > self.config.max_pixels
        if is_large or (size or 0) > self.config.max_object_bytes:
            return Fetched(code=LARGE, message=f"{stored.width}x{stored.height}", attempts=1)
        return None

    async def region(
        self, uri: str, size: int | None, whole: tuple[int, int], region: Region
    ) -> Fetched:
        """The outcome of reading a region: a TIFF of it.

        Args:
            uri: of the image.
            size: of its file in bytes, if it is known.
            whole: width and height, when it was planned, of the image or overview, in pixels.
            region: of it.
        """
        outcome, started = Fetched(attempts=1), time.monotonic()
        try:
            stored = await self._kept(uri, size, region.overview)
            if (now := (stored.width, stored.height)) != whole:
                was = f"{whole[0]}x{whole[1]} pixels when its regions were planned"
                raise DecodeError(Code.CORRUPT, f"it had {was}, and has {now[0]}x{now[1]} now")
            parts = stored.parts(region)
            if sum(end - start for start, end in parts) > self.config.max_object_bytes:
                limit = self.config.max_object_bytes
                outcome.code = Code.OBJECT_TOO_LARGE
                outcome.message = f"its stored data is over max_object_bytes, which is {limit}"
                return outcome
            data, outcome.attempts = await self._read(uri, parts)
            outcome.data = await asyncio.to_thread(stored.file, region, data)
        except Unread as error:
            outcome = error.outcome
        except DecodeError as error:  # its header is another one now
            outcome.code, outcome.message = Code.READ_FAILED, str(error)
        outcome.seconds = time.monotonic() - started
        return outcome

    async def _kept(self, uri: str, size: int | None, directory: int) -> StoredImage:
        """The header, read once for many regions."""
        key = (uri, directory)
        task = self.kept.get(key)
        if not task:
            task = self.kept[key] = asyncio.ensure_future(self.header(uri, size, directory))
            if len(self.kept) > KEPT:
                self.kept.popitem(last=False)
        try:
            stored = await asyncio.shield(task)
        except BaseException:
            self.kept.pop(key, None)
            raise
        if stored is None:
            raise DecodeError(Code.NOT_AN_IMAGE, "it is no longer a TIFF")
        return stored

    async def _read(self, uri: str, parts: Iterable[Range]) -> tuple[dict[Range, bytes], int]:
        """What stands in the parts, and the most reads that one request took."""
        spans = list(_spans(sorted(set(parts))))
        reads = (self.downloader.read(uri, end - start, (start, end)) for (start, end), _ in spans)
        outcomes = await asyncio.gather(*reads)
        found = {}
        for ((start, _), within), got in zip(spans, outcomes, strict=True):
            if got.data is None:
                raise Unread(got)
            for part in within:
                found[part] = got.data[part[0] - start : part[1] - start]
        return found, max(got.attempts for got in outcomes)


def _spans(parts: list[Range]) -> Iterator[tuple[Range, list[Range]]]:
    """What one request reads each, with the parts in it."""
    within: list[Range] = []
    start = end = 0
    for part in parts:
        if within and (part[0] > end + GAP or part[1] - start > REQUEST_BYTES):
            yield (start, end), within
            within = []
        if not within:
            start = end = part[0]
        within.append(part)
        end = max(end, part[1])
    if within:
        yield (start, end), within
