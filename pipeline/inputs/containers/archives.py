"""Archives among the files of a listing, and the images in them."""

from __future__ import annotations

import gzip
import threading
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, groupby, islice, repeat
from typing import Any

import pyarrow as pa
from fsspec import AbstractFileSystem

from pipeline.config import IMAGE_EXTENSIONS, Config
from pipeline.errors import Code, UsageError
from pipeline.images.formats import SIGNATURE_BYTES, is_image
from pipeline.inputs import exclusions, globs, readers, sniffing
from pipeline.inputs.containers import carrying, members, tars, zips
from pipeline.inputs.containers.members import UNREADABLE, Broken, Entry
from pipeline.inputs.containers.ranged import Ranged
from pipeline.inputs.listing import Entry as Listed
from pipeline.inputs.listing import extension_of, list_files
from pipeline.inputs.source import Source, carried_fields
from pipeline.outputs.manifest import LISTED, MEMBER
from pipeline.store import failures, objects, urls

# of a file's name, to `source_kind`
KINDS = {"tar": "tar", "tar.gz": "tgz", "tgz": "tgz", "zip": "zip"}
MODULES = {"tar": tars, "tgz": tars, "zip": zips}
# archives whose headers are read at once; within one, one request waits for the other
AHEAD = 16
MOST_BYTES = 2**48  # that a header can claim without being hostile
SCHEMA = pa.schema([*LISTED, *MEMBER])


def opened(config: Config, fs: AbstractFileSystem, path: str) -> bool:
    """Whether an input has archives to be opened: it names some, or `config.extensions` does."""
    named = any(extension_of(pattern) in KINDS for pattern in globs.expanded(path))
    return (named and not _is_folder(fs, path)) or any(e in KINDS for e in config.extensions)


def _is_folder(fs: AbstractFileSystem, path: str) -> bool:
    return "http" not in fs.protocol and bool(objects.retrying(lambda: fs.isdir(path)))


def open_archives(config: Config, fs: AbstractFileSystem, path: str) -> Source:
    """The images of a listing, those in its archives included.

    Raises:
        UsageError: the URL has a query.
    """
    if urls.public(config.input) != config.input:
        raise UsageError("an archive takes no URL with a query: it would stand in every row")
    texts = pa.schema([("image_uri", pa.string()), *((name, pa.string()) for name in config.carry)])
    schema = pa.schema([*SCHEMA, *carried_fields(config, texts, "image_uri")])
    listing = _Listing(config, fs, path, schema)
    return Source(schema, listing.read, is_table=False, passed=listing.passed)


class _Listing:
    """Lists files and archives in the store's order; archives that come next are read ahead."""

    def __init__(
        self, config: Config, fs: AbstractFileSystem, path: str, schema: pa.Schema
    ) -> None:
        self.config, self.fs, self.path, self.schema = config, fs, path, schema
        self.passed: Counter[str] = Counter()
        self.left_out = exclusions.reasons(config.exclude)
        self.lock = threading.Lock()
        images = tuple(e for e in config.extensions if e not in KINDS)
        self.endings = images or IMAGE_EXTENSIONS
        self.files = images if config.sniff is False else (*images, "")
        named = {extension_of(pattern) for pattern in globs.expanded(path)} & set(KINDS)
        self.archives = named | (set(config.extensions) & set(KINDS))

    def read(self) -> Iterator[pa.Table]:
        """
        Raises:
            UsageError: the input cannot be read, or is one archive that cannot.
        """
        self.passed.clear()
        stop = threading.Event()
        try:
            yield from _in_order(self._streams(stop), stop)
        except UsageError:
            raise
        except Exception as error:  # each file system has its own
            raise failures.unusable("read", self.config.input, error) from error

    def _streams(self, stop: threading.Event) -> Iterator[Iterator[pa.Table]]:
        """Of each archive, and of the files between two of them."""
        wanted = (*self.files, *self.archives)
        listed = list_files(self.fs, self.path, wanted, self.passed, self.left_out)
        sizes = chain([1], repeat(readers.BATCH_ROWS))
        for is_archive, group in groupby(listed, lambda e: extension_of(e[0]) in self.archives):
            if is_archive:
                for entry in group:
                    yield self._archive(entry, next(sizes), stop)
                continue
            files = sniffing.sniffed(self.fs, group, self.passed)
            while some := list(islice(files, next(sizes))):
                yield iter([self._files(some)])

    def _files(self, listed: list[Listed]) -> pa.Table:
        names, sizes, versions = zip(*listed, strict=True)
        found = [urls.url_of(self.fs, name) for name in names]
        none = [pa.nulls(len(found), kind) for kind in self.schema.types[len(LISTED) :]]
        return pa.table([found, sizes, versions, *none], schema=self.schema)

    def _archive(self, listed: Listed, first: int, stop: threading.Event) -> Iterator[pa.Table]:
        url = urls.url_of(self.fs, listed[0])
        passed: Counter[str] = Counter()
        sizes = chain([first], repeat(readers.BATCH_ROWS))
        rows = self._rows(url, listed, passed, stop)
        while some := list(islice(rows, next(sizes))):
            yield pa.Table.from_pylist(some, self.schema)
        with self.lock:
            self.passed.update(passed)

    def _rows(
        self, url: str, listed: Listed, passed: Counter[str], stop: threading.Event
    ) -> Iterator[dict[str, Any]]:
        """The images of an archive, and a row for what of it cannot be read."""
        # of names that come twice each is a row; as many numbers as the archive has images
        names: set[int] = set()
        path, _, version = listed
        kind = KINDS[extension_of(path)]
        count = 0
        left_out = partial(self._is_left_out, passed)
        try:
            file = open_container(self.fs, path, listed[1], kind)
            entries = MODULES[kind].entries(file, kind, version, passed)
            for entry, carried in carrying.images(entries, self.config.carry, left_out, passed):
                if stop.is_set():
                    return
                mark = members.digest(entry.name.encode(errors="surrogateescape"))
                offset = entry.offset if mark in names else None
                names.add(mark)
                count += 1
                uri = members.uri(url, entry.name, offset)
                size = entry.size if entry.size < MOST_BYTES else None  # which is to be summed
                yield _row(uri, size, entry.version, url, entry.kind, entry.place) | carried
        except Broken as error:
            reason = members.unreadable([error.lack, error.offset])
            if path == self.path and not count:  # the whole input
                raise UsageError(f"cannot read {urls.public(url)}: {reason}") from error
            yield _row(url, None, version, url, UNREADABLE, [error.lack, error.offset])
        except OSError as error:
            if failures.classify(error)[0] not in (Code.NOT_FOUND, Code.FORBIDDEN) or count:
                raise
            yield dict.fromkeys(SCHEMA.names) | {"image_uri": url}  # reading it will say so

    def _is_left_out(self, passed: Counter[str], entry: Entry) -> bool:
        ending = extension_of(entry.name)
        reason = self.left_out(entry.name)
        if not reason and ending in self.endings:
            return False
        if not reason and not ending and self.config.sniff and entry.size:
            start = entry.start(SIGNATURE_BYTES)
            if start is None or is_image(start):
                return False
        passed[reason or ending] += 1
        return True


def _row(*values: Any) -> dict[str, Any]:
    return dict(zip(SCHEMA.names, values, strict=True))


def open_container(fs: AbstractFileSystem, path: str, size: int | None, kind: str) -> Any:
    """A file of an archive's bytes, decompressed where it is wholly compressed.

    Raises:
        OSError: its store does not say how long it is.
    """
    length = size if size is not None else objects.retrying(lambda: fs.size(path))
    if length is None:
        raise OSError(f"{urls.url_of(fs, path)}: the server does not say how long it is")
    file = Ranged(fs, path, length)
    return gzip.GzipFile(fileobj=file) if kind == "tgz" else file


def _in_order(streams: Iterator[Iterator[pa.Table]], stop: threading.Event) -> Iterator[pa.Table]:
    """What the streams give, one after the other; `AHEAD` of them are asked at once."""
    waiting: deque[tuple[Iterator[pa.Table], Future[pa.Table | None]]] = deque()
    with ThreadPoolExecutor(AHEAD) as threads:

        def ask(stream: Iterator[pa.Table]) -> tuple[Iterator[pa.Table], Future[pa.Table | None]]:
            return stream, threads.submit(next, stream, None)

        try:
            waiting.extend(map(ask, islice(streams, AHEAD)))
            while waiting:
                stream, future = waiting.popleft()
                table = future.result()
                if table is None:
                    waiting.extend(map(ask, islice(streams, 1)))
                else:
                    waiting.appendleft(ask(stream))
                    yield table
        finally:
            stop.set()
