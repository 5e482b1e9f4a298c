"""Parquet files whose rows hold encoded images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import tables
from pipeline.inputs.source import Source, carried_fields
from pipeline.outputs.manifest import EMBEDDED, LISTED
from pipeline.store import failures, objects, urls


def open_embedded(config: Config, fs: AbstractFileSystem, path: str) -> Source:
    """The images in the `bytes_column` of the Parquet files at, below or matching a path.

    Raises:
        UsageError: there is no such file, or it lacks a column.
    """
    if urls.public(config.input) != config.input:
        raise UsageError("bytes_column takes no URL with a query: it would stand in every row")
    files = tables.find(config, fs, path)
    assert config.bytes_column
    try:
        with fs.open(files[0]) as file:
            table_schema = pq.ParquetFile(file).schema_arrow
    except Exception as error:  # of the file system, or of the table's content
        raise tables.unreadable(config.input, error) from error
    carried = carried_fields(config, table_schema, config.bytes_column)
    _check_bytes(config, table_schema.field(config.bytes_column).type)
    schema = pa.schema([*LISTED, *EMBEDDED, *carried])

    def read() -> Iterator[pa.Table]:
        for name in files:
            try:
                with fs.open(name) as file:
                    for table in _row_groups(pq.ParquetFile(file), list(config.carry)):
                        yield _located(table, urls.url_of(fs, name), schema)
            except Exception as error:  # of the file system, or of the table's content
                raise failures.unusable("read", urls.url_of(fs, name), error) from error

    return Source(schema, read)


def _check_bytes(config: Config, kind: pa.DataType) -> None:
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        where = urls.public(config.input)
        raise UsageError(f"column {config.bytes_column!r} of {where} holds {kind}, not image bytes")


def _row_groups(file: pq.ParquetFile, carry: list[str]) -> Iterator[tuple[int, int, pa.Table]]:
    first = 0
    for index in range(file.num_row_groups):
        rows = file.metadata.row_group(index).num_rows
        carried = file.read_row_group(index, columns=carry)
        yield index, first, carried if carry else pa.table({"_": pa.nulls(rows)})
        first += rows


def _located(group: tuple[int, int, pa.Table], url: str, schema: pa.Schema) -> pa.Table:
    index, first, carried = group
    rows = carried.num_rows
    # no name inside the file is sure to be unique; the row's number is
    columns = [
        [f"{url}#{first + row}" for row in range(rows)],
        *[pa.nulls(rows, pa.int64())] * 2,
        [url] * rows,
        pa.array([index] * rows, pa.int32()),
        pa.array(range(rows), pa.int32()),
        *(carried[name] for name in schema.names[6:]),
    ]
    return pa.table(columns, schema=schema)


@lru_cache(maxsize=2)
def row_group_bytes(fs: AbstractFileSystem, path: str, group: int, column: str) -> pa.ChunkedArray:
    """The encoded images of a row group; kept, since consecutive images share it.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be read.
    """

    def read() -> pa.Table:
        with fs.open(path) as file:
            return pq.ParquetFile(file).read_row_group(group, columns=[column])

    values = objects.retrying(read)[column]
    if pa.types.is_struct(values.type):
        index = values.type.get_field_index("bytes")
        values = pa.chunked_array([chunk.field(index) for chunk in values.chunks])
    # each file has its own types, and reading values of some executes what they hold
    if not (pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)):
        raise pa.ArrowTypeError(f"column {column!r} of {urls.url_of(fs, path)} holds {values.type}")
    return values
