"""Archives and videos among the files of a listing, and the images in them."""

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

from pipeline.config import ARCHIVE_EXTENSIONS, IMAGE_EXTENSIONS, VIDEO_EXTENSIONS, Config
from pipeline.errors import RunError, UsageError
from pipeline.images.formats import SIGNATURE_BYTES, is_image
from pipeline.inputs import exclusions, globs, passed_over, readers, sniffing
from pipeline.inputs.containers import carrying, members, tars, zips
from pipeline.inputs.containers.members import UNREADABLE, Broken, Entry
from pipeline.inputs.containers.ranged import open_ranged
from pipeline.inputs.containers.video import listing as videos
from pipeline.inputs.entries import Entry as Listed
from pipeline.inputs.entries import digest
from pipeline.inputs.listing import extension_of, list_files, unlisted
from pipeline.inputs.source import Source, carried_fields
from pipeline.outputs.manifest import LISTED, MEMBER
from pipeline.store import failures, objects, urls

# of a file's name, to `source_kind`
KINDS = {ending: ending.replace("tar.gz", "tgz") for ending in ARCHIVE_EXTENSIONS}
MODULES = {"tar": tars, "tgz": tars, "zip": zips}
# archives whose headers are read at once; within one, one request waits for the other
AHEAD = 16
MOST_BYTES = 2**48  # that a header can claim without being hostile
SCHEMA = pa.schema([*LISTED, *MEMBER])
# by the ending of a member that is not read, whatever flag is given
ARCHIVED = dict.fromkeys(VIDEO_EXTENSIONS, "/archived video") | dict.fromkeys(
    KINDS, "/nested archive"
)


def opened(config: Config, fs: AbstractFileSystem, path: str) -> bool:
    """Whether an input has archives or videos to be opened: it, or the configuration, names some.

    Raises:
        UsageError: it names videos, and not which frames of them.
    """
    named = _named(fs, path)
    return bool(videos.endings(config, named) or _archives(config, named))


def _archives(config: Config, named: set[str]) -> set[str]:
    return set(KINDS) & (named | set(config.extensions))


def _named(fs: AbstractFileSystem, path: str) -> set[str]:
    """The endings of the containers that a path names."""
    endings = set(map(extension_of, globs.expanded(path))) & {*KINDS, *VIDEO_EXTENSIONS}
    return endings if endings and not _is_folder(fs, path) else set()


def _is_folder(fs: AbstractFileSystem, path: str) -> bool:
    return "http" not in fs.protocol and bool(objects.retrying(lambda: fs.isdir(path)))


def open_archives(config: Config, fs: AbstractFileSystem, path: str) -> Source:
    """The images of a listing, those in its archives and videos included.

    Raises:
        UsageError: the URL has a query, or no archive has what is to be carried.
    """
    if urls.public(config.input) != config.input:
        what = "a video" if config.reads_videos else "an archive"
        raise UsageError(
            f"{what} must have a URL without a query, which would be written to every row"
        )
    if config.carry and not _archives(config, _named(fs, path)):
        raise UsageError("carry needs a manifest table, bytes_column or archives, not videos")
    texts = pa.schema([("image_uri", pa.string()), *((name, pa.string()) for name in config.carry)])
    own = videos.SCHEMA if config.reads_videos else SCHEMA
    schema = pa.schema([*own, *carried_fields(config, texts, "image_uri")])
    listing = _Listing(config, fs, path, schema)
    return Source(schema, listing.read, is_table=False, passed=listing.passed)


class _Listing:
    """Lists files and containers in the store's order; containers that come next are read ahead."""

    def __init__(
        self, config: Config, fs: AbstractFileSystem, path: str, schema: pa.Schema
    ) -> None:
        self.config, self.fs, self.path, self.schema = config, fs, path, schema
        self.passed: Counter[str] = Counter()
        self.left_out = exclusions.reasons(config.include, config.exclude)
        # `include` says which members
        self.left_out_archive = exclusions.reasons(exclude=config.exclude)
        self.lock = threading.Lock()
        named = _named(fs, path)
        self.archives, self.videos = _archives(config, named), videos.endings(config, named)
        images = tuple(e for e in config.extensions if e not in {*KINDS, *self.videos})
        self.endings = images or IMAGE_EXTENSIONS
        self.files = images if config.sniff is False else (*images, "")

    def read(self) -> Iterator[pa.Table]:
        """
        Raises:
            UsageError: the input cannot be read, or is one archive that cannot.
        """
        self.passed.clear()
        found = videos.VideoListing(self.config, self.fs, self.path)
        stop = threading.Event()
        try:
            yield from _in_order(self._streams(found, stop), stop)
            if self.videos:
                found.say()
        except (UsageError, RunError):
            raise
        except Exception as error:  # each file system has its own
            raise unlisted(self.config.input, self.fs, self.path, error) from error
        finally:
            found.close()

    def _streams(
        self, found: videos.VideoListing, stop: threading.Event
    ) -> Iterator[Iterator[pa.Table]]:
        """Of each container, and of the files between two of them."""
        containers = self.archives | self.videos
        wanted = (*self.files, *containers)
        listed = list_files(self.fs, self.path, wanted, self.passed, self._reason)
        sizes = chain([1], repeat(readers.BATCH_ROWS))
        for is_container, group in groupby(listed, lambda e: extension_of(e[0]) in containers):
            if is_container:
                for entry in group:
                    if extension_of(entry[0]) in self.videos:
                        yield found.tables(entry, self.schema, next(sizes))
                    else:
                        yield self._archive(entry, next(sizes), stop)
                continue
            files = sniffing.sniffed(self.fs, group, self.passed)
            while some := list(islice(files, next(sizes))):
                yield iter([self._files(some)])

    def _files(self, listed: list[Listed]) -> pa.Table:
        names, sizes, versions = zip(*listed, strict=True)
        found = [urls.url_of(self.fs, name) for name in names]
        self._check_names(found)
        none = [pa.nulls(len(found), kind) for kind in self.schema.types[len(LISTED) :]]
        return pa.table([found, sizes, versions, *none], schema=self.schema)

    def _check_names(self, found: list[str]) -> None:
        containers = self.archives | self.videos
        for url in found:
            ends = (place for place, letter in enumerate(url) if letter == "#")
            if any(extension_of(url[:end]) in containers for end in ends):
                raise UsageError(
                    f"the file {url} has a name like that of a member of an archive or a video: "
                    "rename it, or leave it out with --exclude"
                )

    def _archive(self, listed: Listed, first: int, stop: threading.Event) -> Iterator[pa.Table]:
        url = urls.url_of(self.fs, listed[0])
        passed: Counter[str] = Counter()
        sizes = chain([first], repeat(readers.BATCH_ROWS))
        rows = self._rows(url, listed, passed, stop)
        while some := list(islice(rows, next(sizes))):
            yield pa.Table.from_pylist(some, self.schema)
        with self.lock:
            for reason, number in passed.items():
                passed_over.count(self.passed, reason, number)

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
                mark = digest(entry.name.encode(errors="surrogateescape"))
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
            if path == self.path and failures.is_unranged(error):
                raise failures.unusable("read", url, error) from error
            yield _row(url, None, version, url, UNREADABLE, members.unlisted(error, count))

    def _reason(self, path: str) -> str:
        is_archive = extension_of(path or self.path) in self.archives  # "" is the input itself
        may_hold_one = is_archive or path.endswith("/")
        return self.left_out_archive(path) if may_hold_one else self.left_out(path)

    def _is_left_out(self, passed: Counter[str], entry: Entry) -> bool:
        ending = extension_of(entry.name)
        reason = self.left_out(entry.name)
        if not reason and ending in self.endings:
            return False
        if not reason and not ending and self.config.sniff and entry.size:
            start = entry.start(SIGNATURE_BYTES)
            if start is None or is_image(start):
                return False
        passed[reason or ARCHIVED.get(ending, ending)] += 1
        return True


def _row(*values: Any) -> dict[str, Any]:
    return dict(zip(SCHEMA.names, values, strict=True))


def open_container(fs: AbstractFileSystem, path: str, size: int | None, kind: str) -> Any:
    """A file of an archive's bytes, decompressed where it is wholly compressed.

    Raises:
        OSError: its store does not say how long it is.
    """
    file = open_ranged(fs, path, size)
    return gzip.GzipFile(fileobj=file) if kind == "tgz" else file


def _in_order(streams: Iterator[Iterator[pa.Table]], stop: threading.Event) -> Iterator[pa.Table]:
    """What the streams give, one after the other; `AHEAD` of them are asked at once."""
    waiting: deque[tuple[Iterator[pa.Table], Future[pa.Table | None]]] = deque()
    with ThreadPoolExecutor(AHEAD) as threads:

        def ask(stream: Iterator[pa.Table]) -> tuple[Iterator[pa.Table], Future[pa.Table | None]]:
            return stream, threads.submit(next, stream, None)

        try:
            # until one has given something: who only looks whether there is something goes then
            at_once = 1
            waiting.extend(map(ask, islice(streams, at_once)))
            while waiting:
                stream, future = waiting.popleft()
                table = future.result()
                if table is not None:
                    yield table
                    at_once = AHEAD
                    waiting.appendleft(ask(stream))
                waiting.extend(map(ask, islice(streams, at_once - len(waiting))))
        finally:
            stop.set()
