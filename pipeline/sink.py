"""Finished rows to Parquet files; and which ids those files hold, each exactly once.

The output is its own checkpoint: a file appears whole or not at all and is never overwritten, so
the ids in the files are the images that are done. Whatever is executed twice shows as an id that
is there already, and goes.
"""

from __future__ import annotations

import io
import logging
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import fsspec.parquet
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from pipeline import objects, storage
from pipeline.config import RunError
from pipeline.lease import LeaseLost, holder
from pipeline.manifest import SLICE_ROWS
from pipeline.schema import FLOATS, STATUSES

if TYPE_CHECKING:  # it brings Ray, which readers of an output do without
    from pipeline.client import Client

log = logging.getLogger(__name__)
READERS = 32
SUMMARY = ["image_id", "num_detections", "error_code"]


@dataclass(frozen=True)
class Writer:
    """Ray Data stage: finished rows in, a summary of what was committed out.

    Args:
        output: URL of the output.
        attempt: number of the attempt, part of each file's name.
        token: the lease without which nothing is written.
        index: number of the slice, part of each file's name.
    """

    output: str
    attempt: int
    token: str
    schema: pa.Schema
    client: Client
    index: int = 0

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
        fs, root = storage.filesystem(self.output)
        if holder(fs, f"{root}/_run/lease.json") != self.token:
            raise LeaseLost("another run took this output over")
        summaries = []
        for status in STATUSES:
            part = rows.filter(pc.equal(rows["status"], status))
            if part.num_rows:
                name = file_name(status, self.index, self.attempt, pc.min(rows["image_id"]).as_py())
                try:
                    objects.put(fs, f"{root}/detections/{name}", encode(part, self.schema))
                except OSError as error:
                    url = f"{self.output}/detections/{name}"
                    raise RunError(str(storage.unusable("write", url, error))) from error
                names = pa.array([name] * part.num_rows, pa.string())
                summaries.append(part.select(SUMMARY).append_column("file", names))
        self.client.add(written=rows.num_rows, seconds_write=time.monotonic() - started)
        self.client.end(first)
        return pa.concat_tables(summaries)


def file_name(status: str, index: int, attempt: int, first_id: int) -> str:
    """A name that no other write shares. The slice comes first, since stores list by prefix."""
    random = uuid.uuid4().hex[:12]
    return f"status={status}/{_prefix(index)}{attempt:04d}-{first_id:012d}-{random}.parquet"


def _prefix(index: int) -> str:
    return f"part-{index:05d}-"


def encode(rows: pa.Table, schema: pa.Schema) -> bytes:
    """A Parquet file of rows in order of id, in the given schema."""
    rows = rows.select(schema.names).sort_by("image_id").cast(schema)
    buffer = io.BytesIO()
    floats = [f"detections.list.element.{name}" for name in FLOATS]
    texts = [f.name for f in schema if pa.types.is_string(f.type)]
    pq.write_table(
        rows.replace_schema_metadata(schema.metadata),
        buffer,
        compression="zstd",
        use_dictionary=[
            *texts,
            "detections.list.element.label",
            "detections.list.element.label_id",
        ],
        use_byte_stream_split=floats,
    )
    return buffer.getvalue()


@dataclass
class Finished:
    """The images of one slice that are done, and the files that hold them.

    Args:
        fs: file system of the output.
        folder: the path of `detections/` there.
        index: number of the slice.
        rows: number of its images.
        retry_from: error rows of earlier attempts than this do not count: they are being redone.
    """

    fs: AbstractFileSystem
    folder: str
    index: int
    rows: int
    retry_from: int = 0
    files: set[str] = field(default_factory=set)
    detections: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.done = np.zeros(self.rows, bool)
        self.first_id = self.index * SLICE_ROWS

    @property
    def missing(self) -> int:
        """Number of images still to be done."""
        return self.rows - int(np.count_nonzero(self.done))

    def load(self) -> None:
        """Take in every file of the slice that is not known yet."""
        for name, table in self._unknown():
            self.add(name, table)

    def look(self) -> None:
        """Take in what the files hold at this moment, repeats and all; nothing is changed."""
        for name, table in self._unknown():
            self._take(name, table, self._fresh(table))

    def _unknown(self) -> Iterator[tuple[str, pa.Table]]:
        """The files that are not known yet, by the `SUMMARY` columns of their rows."""
        names = [n for n in self._listed() if n not in self.files and not self._superseded(n)]
        with ThreadPoolExecutor(READERS) as threads:
            yield from zip(names, threads.map(self._read, names), strict=True)

    def add(self, name: str, table: pa.Table) -> None:
        """Take in a file by the `SUMMARY` columns of its rows; rows that are done elsewhere go."""
        fresh = self._fresh(table)
        if not fresh.all():
            log.info("%s repeats %d rows; removing them", name, int((~fresh).sum()))
            new_name = self._filtered(name, fresh)
            if new_name is None:
                return
            name = new_name
        self._take(name, table, fresh)

    def _fresh(self, table: pa.Table) -> np.ndarray:
        """Which rows are neither done elsewhere nor repeats of others in the table."""
        places = table["image_id"].to_numpy() - self.first_id
        fresh: np.ndarray = ~self.done[places]
        fresh &= np.isin(np.arange(len(places)), np.unique(places, return_index=True)[1])
        return fresh

    def _take(self, name: str, table: pa.Table, fresh: np.ndarray) -> None:
        table = table.filter(pa.array(fresh))
        self.done[table["image_id"].to_numpy() - self.first_id] = True
        self.files.add(name)
        self.detections += pc.sum(table["num_detections"]).as_py() or 0
        self.errors.update(code for code in table["error_code"].to_pylist() if code)

    def forget(self, ids: np.ndarray) -> None:
        """Take the rows of these images out of the slice's files."""
        names = self._listed()
        with ThreadPoolExecutor(READERS) as threads:
            for name, table in zip(names, threads.map(self._read, names), strict=True):
                keep = ~np.isin(table["image_id"].to_numpy(), ids)
                if not keep.all():
                    self._filtered(name, keep)

    def remove_superseded(self) -> None:
        """Delete the error rows that a retry has redone."""
        if not self.retry_from:
            return
        for name in self._listed():
            if self._superseded(name):
                objects.delete(self.fs, f"{self.folder}/{name}")

    def _superseded(self, name: str) -> bool:
        attempt = int(name.split("-")[2])
        return name.startswith("status=error/") and attempt < self.retry_from

    def _listed(self) -> list[str]:
        prefix = _prefix(self.index)
        return [
            f"status={status}/{name}"
            for status in STATUSES
            for name in objects.names(self.fs, f"{self.folder}/status={status}", prefix)
            if name.endswith(".parquet")
        ]

    def _read(self, name: str) -> pa.Table:
        path = f"{self.folder}/{name}"
        try:
            return objects.retrying(lambda: _read_columns(self.fs, path, SUMMARY))
        except pa.ArrowException as error:
            raise RunError(
                f"{storage.url_of(self.fs, path)} is damaged ({storage.explain(error)}); delete it "
                f"and run the same command to redo its images"
            ) from error

    def _filtered(self, name: str, keep: np.ndarray) -> str | None:
        """Put a file with some of a file's rows in its place; returns its name, if any are left."""
        new_name = None
        if keep.any():
            data = objects.retrying(lambda: self.fs.cat_file(f"{self.folder}/{name}"))
            rows = pq.read_table(pa.BufferReader(data), partitioning=None)
            rows = rows.filter(pa.array(keep))
            status = name.partition("/")[0].removeprefix("status=")
            attempt, first_id = map(int, name.split("-")[2:4])
            new_name = file_name(status, self.index, attempt, first_id)
            objects.put(self.fs, f"{self.folder}/{new_name}", encode(rows, rows.schema))
        objects.delete(self.fs, f"{self.folder}/{name}")
        return new_name


def _read_columns(fs: AbstractFileSystem, path: str, columns: list[str]) -> pa.Table:
    if storage.is_local(fs):
        return pq.ParquetFile(path).read(columns=columns)
    with fsspec.parquet.open_parquet_file(path, fs=fs, columns=columns, engine="pyarrow") as file:
        return pq.ParquetFile(file).read(columns=columns)


def by_file(summary: pa.Table) -> Iterable[tuple[str, pa.Table]]:
    """The rows of a `Writer`'s summary, file by file."""
    for name in pc.unique(summary["file"]).to_pylist():
        yield name, summary.filter(pc.equal(summary["file"], name)).select(SUMMARY)
