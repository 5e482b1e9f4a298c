"""Parquet files whose rows hold encoded images. `source_place` is [row group, row in it]."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import tables
from pipeline.inputs.references import absolute
from pipeline.inputs.source import Source, carried_fields
from pipeline.outputs.manifest import LISTED, MEMBER
from pipeline.reading import Reading
from pipeline.store import failures, objects, urls


def open_embedded(config: Config, fs: AbstractFileSystem, path: str) -> Source:
    """The images in the `bytes_column` of the Parquet files at, below or matching a path.

    Raises:
        UsageError: there is no such file, or it lacks a column.
    """
    if urls.public(config.input) != config.input:
        raise UsageError("bytes_column takes no URL with a query: it would stand in every row")
    passed: Counter[str] = Counter()
    files = tables.find(config, fs, path, passed)
    assert config.bytes_column
    try:
        with fs.open(files[0]) as file:
            table_schema = pq.ParquetFile(file).schema_arrow
    except Exception as error:  # of the file system, or of the table's content
        raise tables.unreadable(config.input, error) from error
    carried = carried_fields(config, table_schema, config.bytes_column)
    _check_bytes(config, table_schema.field(config.bytes_column).type)
    schema = pa.schema([*LISTED, *MEMBER, *carried])

    def read() -> Iterator[pa.Table]:
        for name in files:
            try:
                with fs.open(name) as file:
                    for table in _row_groups(pq.ParquetFile(file), list(config.carry)):
                        yield _located(table, urls.url_of(fs, name), schema)
            except Exception as error:  # of the file system, or of the table's content
                raise failures.unusable("read", urls.url_of(fs, name), error) from error

    return Source(schema, read, passed=passed)


def _check_bytes(config: Config, kind: pa.DataType) -> None:
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        if pa.types.is_null(kind.field("bytes").type) and kind.get_field_index("path") >= 0:
            return  # no image of this file is embedded
        kind = kind.field("bytes").type
    if not _is_bytes(kind):
        where = urls.public(config.input)
        raise UsageError(f"column {config.bytes_column!r} of {where} holds {kind}, not image bytes")


def _is_bytes(kind: pa.DataType) -> bool:
    plain = _plain(kind)
    return pa.types.is_fixed_size_binary(plain) or plain in (
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
    )


def _is_text(kind: pa.DataType) -> bool:
    return _plain(kind) in (pa.string(), pa.large_string(), pa.string_view())


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


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
        ["parquet"] * rows,
        [[index, row] for row in range(rows)],
        *(carried[name] for name in schema.names[6:]),
    ]
    return pa.table(columns, schema=schema)


def image(
    source_uri: str, row_group: int, row: int, column: str, reading: Reading
) -> bytes | str | None:
    """The encoded image of a row, or the URI that its path means, or None where it has neither.

    Args:
        source_uri: URL of the file.
        row_group, row: the image's `source_place`.
        column: with the images: their bytes, or a struct of `bytes` and `path`.
        reading: the run's.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be read.
    """
    values, paths = _row_group(*urls.filesystem(source_uri, reading=reading), row_group, column)
    found: bytes | None = values[row].as_py()
    if found is None and paths is not None and (path := paths[row].as_py()):
        return absolute(path, posixpath.dirname(source_uri))
    return found


@lru_cache(maxsize=2)
def _row_group(
    fs: AbstractFileSystem, path: str, group: int, column: str
) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
    """The images of a row group and their paths; kept, since consecutive images share it."""

    def read() -> pa.Table:
        with fs.open(path) as file:
            return pq.ParquetFile(file).read_row_group(group, columns=[column])

    values, paths = objects.retrying(read)[column], None
    if pa.types.is_struct(values.type):
        paths = _field(values, "path")
        values = _field(values, "bytes")
    # each file has its own types, and reading values of some executes what they hold
    if values is None or not (_is_bytes(values.type) or pa.types.is_null(values.type)):
        held = values.type if values is not None else "a struct without bytes"
        raise pa.ArrowTypeError(f"column {column!r} of {urls.url_of(fs, path)} holds {held}")
    return values, paths if paths is not None and _is_text(paths.type) else None


def _field(structs: pa.ChunkedArray, name: str) -> pa.ChunkedArray | None:
    index = structs.type.get_field_index(name)
    if index < 0:
        return None
    kind = structs.type.field(index).type
    return pa.chunked_array([chunk.field(index) for chunk in structs.chunks], kind)
