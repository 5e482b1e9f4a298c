"""Tables read in groups of rows: row groups of Parquet, record batches of Arrow IPC."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from pipeline.inputs import arrow_ipc, tables
from pipeline.inputs.entries import version_of
from pipeline.store import objects, urls

COPY_BYTES = 16 * 2**20


def schema(fs: AbstractFileSystem, path: str) -> pa.Schema:
    """The columns of a file.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be read.
    """
    if tables.kind_of(path) != "parquet":
        return _arrow_ipc(fs, path, [])[0]
    with objects.opened(fs, path) as file:
        return pq.ParquetFile(file).schema_arrow


def groups(fs: AbstractFileSystem, path: str, columns: list[str]) -> Iterator[pa.Table]:
    """The rows of one group after the other; where there are no columns, one of nulls.

    Raises:
        OSError, pyarrow.ArrowException: the file cannot be read.
    """
    if tables.kind_of(path) != "parquet":
        # of some column, since a batch without any does not know its rows
        for batch in _arrow_ipc(fs, path, columns)[1]:
            batch.validate(full=True)
            yield pa.table(batch).select(columns) if columns else _nulls(batch.num_rows)
        return
    with objects.opened(fs, path) as file:
        found = pq.ParquetFile(file)
        for index in range(found.num_row_groups):
            rows = found.metadata.row_group(index).num_rows
            yield found.read_row_group(index, columns=columns) if columns else _nulls(rows)


def column(fs: AbstractFileSystem, path: str, group: int, name: str) -> pa.ChunkedArray:
    """A column of a group.

    Raises:
        OSError, pyarrow.ArrowException: the file cannot be read.
    """
    if tables.kind_of(path) != "parquet":
        batch = next(islice(_arrow_ipc(fs, path, [name])[1], group, None))
        if batch is None:
            raise pa.ArrowInvalid(f"{urls.url_of(fs, path)} no longer has a record batch {group}")
        # nothing else has looked at it: what reads values trusts their offsets
        batch.validate(full=True)
        return pa.table(batch)[name]
    with objects.opened(fs, path) as file:
        return pq.ParquetFile(file).read_row_group(group, columns=[name])[name]


def mean_bytes(fs: AbstractFileSystem, path: str, group: int, name: str) -> float:
    """Of the values of a column in a group, uncompressed.

    Raises:
        OSError, pyarrow.ArrowException: the file cannot be read.
    """
    if tables.kind_of(path) != "parquet":
        values = column(fs, path, group, name)
        return float(values.nbytes / len(values))
    with objects.opened(fs, path) as file:
        found = pq.ParquetFile(file).metadata.row_group(group)
    columns = [found.column(index) for index in range(found.num_columns)]
    sizes = [
        c.total_uncompressed_size for c in columns if c.path_in_schema in (name, f"{name}.bytes")
    ]
    return float(sum(sizes) / found.num_rows)


def _nulls(rows: int) -> pa.Table:
    return pa.table({"": pa.nulls(rows)})


def _arrow_ipc(
    fs: AbstractFileSystem, path: str, columns: list[str]
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    return arrow_ipc.read(pa.BufferReader(_content(fs, path)), columns)


def _content(fs: AbstractFileSystem, path: str) -> pa.Buffer:
    """The file in the address space; of a store a copy on disk, gone once nobody reads it."""
    info = objects.retrying(lambda: fs.info(path))
    if info["size"] is None:
        raise OSError(f"{urls.url_of(fs, path)}: the server does not say how long it is")
    return _mapped(fs, path, info["size"], version_of(info))


@lru_cache(maxsize=2)
def _mapped(fs: AbstractFileSystem, path: str, size: int, version: int | None) -> pa.Buffer:
    # kept by `version`, too, since a process may come to the file again once it has changed
    if urls.is_local(fs):
        return pa.memory_map(os.fsencode(path)).read_buffer()
    with tempfile.NamedTemporaryFile() as copy:
        for start in range(0, size, COPY_BYTES):
            span = {"start": start, "end": start + COPY_BYTES}
            copy.write(objects.retrying(partial(fs.cat_file, path, **span)))
        copy.flush()
        return pa.memory_map(copy.name).read_buffer()
