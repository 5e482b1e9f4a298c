"""Files of an export, in a folder on a disk or in a store."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from pipeline.errors import UsageError
from pipeline.locations import checked_url
from pipeline.store import failures, objects, urls

IN_FLIGHT = 64


class Sender:
    """Writes small files to any store, many at a time."""

    def __init__(self, fs: AbstractFileSystem, threads: ThreadPoolExecutor) -> None:
        self.fs = fs
        self.threads = threads
        self.sent: deque[Future[None]] = deque()

    def send(self, path: str, data: bytes) -> None:
        """Write a file before `wait` is through."""
        if len(self.sent) >= IN_FLIGHT:
            self.sent.popleft().result()
        # `objects.put` waits for the disk, which matters only for what says that all is written
        put = _put_local if urls.is_local(self.fs) else partial(objects.put, self.fs)
        self.sent.append(self.threads.submit(put, path, data))

    def wait(self) -> None:
        """
        Raises:
            OSError: a file could not be written; `send` may raise it too.
        """
        while self.sent:
            self.sent.popleft().result()


def pour(spool: IO[str], file: IO[str]) -> None:
    """What a `Folder.spool` holds, to the end of a file."""
    spool.seek(0)
    shutil.copyfileobj(spool, file)


def _put_local(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def open_target(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system and path of a folder that can be written, and holds nothing yet.

    Raises:
        UsageError: it is not so.
    """
    fs, root = urls.filesystem(checked_url("--to", url))
    root = root.rstrip("/")
    if urls.is_local(fs) and fs.isfile(root):
        raise UsageError(f"--to {url} is a file; give the name of a folder")
    try:
        found = objects.names(fs, root)
        if not found:  # better to find out now than after an hour
            objects.put(fs, f"{root}/.writable", b"")
            objects.delete(fs, f"{root}/.writable")
    except OSError as error:
        raise failures.unusable("write", url, error) from error
    if found:
        raise UsageError(f"{url} is not empty (it holds {found[0]!r}); give a new folder")
    return fs, root


class Folder:
    """A folder on any store. Nothing in it is finished before `close`.

    On a store that is not local, files that grow wait on the local disk (in `TMPDIR`), so that an
    upload that breaks off can be tried again.
    """

    def __init__(self, sender: Sender, root: str) -> None:
        self.sender = sender
        self.root = root
        self.local = urls.is_local(sender.fs)
        self.made: set[str] = set()
        self.growing: dict[str, IO[Any]] = {}
        self.spools: list[IO[str]] = []
        self.writers: list[pq.ParquetWriter] = []

    def open(self, name: str) -> IO[str]:
        """A text to be written bit by bit; `close` closes it."""
        return self._open(name, "w", encoding="utf-8", newline="")

    def parquet(self, name: str, schema: pa.Schema) -> pq.ParquetWriter:
        """A table to be written bit by bit; whoever writes it closes it before `close`."""
        writer = pq.ParquetWriter(self._open(name, "wb"), schema, compression="zstd")
        self.writers.append(writer)
        return writer

    def _open(self, name: str, mode: str, **kind: Any) -> IO[Any]:
        if self.local:
            file = open(self._path(name), mode, **kind)  # noqa: SIM115
        else:
            file = tempfile.NamedTemporaryFile(mode, **kind)  # noqa: SIM115
        self.growing[name] = file
        return file

    def spool(self) -> IO[str]:
        """A temporary file for a section that is known before its place in the file has come."""
        file = tempfile.TemporaryFile("w+", encoding="utf-8", newline="")  # noqa: SIM115
        self.spools.append(file)
        return file

    def put(self, name: str, data: bytes) -> None:
        """Write a whole file."""
        self.sender.send(self._path(name), data)

    def url(self, name: str) -> str:
        """Of a file in it; of a local one, its path."""
        return urls.url_of(self.sender.fs, f"{self.root}/{name}")

    def link(self, name: str, path: str) -> None:
        """Lead to a file of this machine, as this folder is.

        Raises:
            UsageError: this folder is not.
        """
        if not self.local:
            raise UsageError("--link needs a --to on this machine")
        os.symlink(path, self._path(name))

    def close(self) -> None:
        """Wait until all files are where they belong.

        Raises:
            OSError: one could not be written.
        """
        for name in list(self.growing):
            self.finish(name)
        self.abandon()
        self.sender.wait()

    def abandon(self) -> None:
        """Close what is open on this machine, and write nothing more."""
        for writer in self.writers:  # which would end its table when it is forgotten
            writer.is_open = False
        for file in (*self.growing.values(), *self.spools):
            file.close()

    def finish(self, name: str) -> None:
        """Close an open file before the others."""
        with self.growing.pop(name) as file:
            if not self.local:
                file.flush()
                path = self._path(name)
                objects.retrying(lambda: self.sender.fs.put_file(file.name, path))

    def _path(self, name: str) -> str:
        path = f"{self.root}/{name}"
        folder = os.path.dirname(path)
        if self.local and folder not in self.made:
            os.makedirs(folder, exist_ok=True)
            self.made.add(folder)
        return path
