"""What a run shall process: a listing, a manifest table or embedded bytes, as one stream.

Every source yields Arrow tables of a bounded number of rows. No listing is ever wholly in memory.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from pipeline import storage
from pipeline.config import Config, UsageError
from pipeline.listing import list_files
from pipeline.schema import ROW

BATCH_ROWS = 8192
TABLE_EXTENSIONS = ("parquet", "csv", "jsonl", "ndjson", "txt")
URI_COLUMNS = ("image_uri", "uri", "url", "path", "file_name")

LISTED = pa.schema([pa.field("image_uri", pa.string(), nullable=False), ("size_bytes", pa.int64())])
# where the bytes of an embedded image stand
EMBEDDED = pa.schema([("source_uri", pa.string()), ("row_group", pa.int32()), ("row", pa.int32())])


@dataclass(frozen=True)
class Source:
    """An input that can be streamed from its start, more than once.

    Attributes:
        schema: `LISTED`, then `EMBEDDED` where the bytes are in the input, then carried columns.
        read: yields tables of that schema.
        may_repeat: whether a URI can occur twice.
    """

    schema: pa.Schema
    read: Callable[[], Iterator[pa.Table]]
    may_repeat: bool = False


def open_source(config: Config) -> Source:
    """The source that `config.input` means.

    Raises:
        UsageError: the input cannot be read, or lacks a column.
    """
    fs, path = storage.filesystem(config.input)
    if config.bytes_column:
        return _embedded(config, fs, path)
    if config.uri_column or _is_table(path):
        return _table(config, fs, path)
    if config.carry:
        raise UsageError("carry needs a manifest table or bytes_column; the input is a listing")
    return Source(LISTED, lambda: _listing(config, fs, path))


# ------------------------------------------------------------------------------- listing


def _listing(config: Config, fs: AbstractFileSystem, path: str) -> Iterator[pa.Table]:
    uris: list[str] = []
    sizes: list[int | None] = []
    try:
        for name, size in list_files(fs, path, config.extensions):
            uris.append(storage.url_of(fs, name))
            sizes.append(size)
            if len(uris) == BATCH_ROWS:
                yield pa.table([uris, sizes], schema=LISTED)
                uris, sizes = [], []
    except Exception as error:  # each file system has its own
        raise storage.unusable("read", config.input, error) from error
    if uris:
        yield pa.table([uris, sizes], schema=LISTED)


# ------------------------------------------------------------------------------- tables


def _kind(path: str) -> str:
    """The extension of a table, without `.gz`; empty if it is none."""
    name = posixpath.basename(storage.public(path)).lower().removesuffix(".gz")
    _, dot, extension = name.rpartition(".")
    return extension if dot and extension in TABLE_EXTENSIONS else ""


def _is_table(path: str) -> bool:
    # the failed images of a run are a manifest of their own
    return bool(_kind(path)) or posixpath.basename(path.rstrip("/")) == "status=error"


def _table_files(config: Config, fs: AbstractFileSystem, path: str) -> list[str]:
    extensions = ("parquet",) if config.bytes_column else (*TABLE_EXTENSIONS, "gz")
    try:
        files = [name for name, _ in list_files(fs, path, extensions) if _kind(name)]
    except Exception as error:  # each file system has its own
        raise storage.unusable("read", config.input, error) from error
    if not files:
        raise UsageError(f"no table ({', '.join(extensions)}) at {storage.public(config.input)}")
    if len({_kind(name) for name in files}) > 1:
        raise UsageError(f"{config.input} mixes tables of several kinds; choose one by a glob")
    return files


def _table(config: Config, fs: AbstractFileSystem, path: str) -> Source:
    files = _table_files(config, fs, path)
    table_schema = _dataset(fs, files[0]).schema
    uri_column = config.uri_column or _uri_column(config, table_schema)
    carried = _carried(config, table_schema, uri_column)
    schema = pa.schema([*LISTED, *carried])
    columns = [uri_column, *config.carry]

    def read() -> Iterator[pa.Table]:
        for name in files:
            folder = posixpath.dirname(storage.url_of(fs, name))
            dataset = _dataset(fs, name, table_schema)
            try:
                for batch in dataset.to_batches(columns=columns, batch_size=BATCH_ROWS):
                    uris = [_absolute(uri, folder) for uri in batch.column(0).to_pylist()]
                    sizes = pa.nulls(len(uris), pa.int64())
                    yield pa.table([uris, sizes, *batch.columns[1:]], schema=schema)
            except Exception as error:  # of the file system, or of the table's content
                raise storage.unusable("read", storage.url_of(fs, name), error) from error

    return Source(schema, read, may_repeat=True)


def _dataset(fs: AbstractFileSystem, file: str, schema: pa.Schema | None = None) -> ds.Dataset:
    """A table file, to be streamed; in the given schema or that of its first rows."""
    kind = _kind(file)
    form: Any = "json" if kind in ("jsonl", "ndjson") else kind
    if kind == "txt":  # one column, since no line holds the separator
        form = ds.CsvFileFormat(
            parse_options=csv.ParseOptions(delimiter="\x01", quote_char=False),
            read_options=csv.ReadOptions(column_names=["uri"]),
        )
        schema = pa.schema({"uri": pa.string()})
    try:
        if kind == "csv" and not schema:
            # all as text: a type guessed from the first rows may fail a million rows later
            names = ds.dataset(file, filesystem=fs, format=form).schema.names
            schema = pa.schema([(name, pa.string()) for name in names])
        return ds.dataset(file, schema=schema, filesystem=fs, format=form, partitioning=None)
    except Exception as error:  # of the file system, or of the table's content
        raise storage.unusable("read", storage.url_of(fs, file), error) from error


def _uri_column(config: Config, schema: pa.Schema) -> str:
    for name in URI_COLUMNS:
        if name in schema.names:
            return name
    raise UsageError(
        f"{config.input} has no column named {', '.join(URI_COLUMNS)}; "
        f"choose one of its columns by uri_column: {', '.join(schema.names)}"
    )


def _carried(config: Config, schema: pa.Schema, column: str) -> list[pa.Field]:
    for name in (column, *config.carry):
        if name not in schema.names:
            raise UsageError(
                f"{config.input} has no column {name!r}; it has {', '.join(schema.names)}"
            )
    reserved = {*ROW.names, *LISTED.names, *EMBEDDED.names, "status", "encoded"}
    for name in config.carry:
        if name in reserved:
            raise UsageError(f"column {name!r} cannot be carried: the output has one of that name")
    return [schema.field(name).with_metadata(None) for name in config.carry]


def _absolute(uri: Any, folder: str) -> str:
    # a row without URI stays a row: it ends as an error, not as an absence
    text = "" if uri is None else str(uri)
    if not text or "://" in text or text.startswith("/"):
        return text
    return f"{folder}/{text}"


# ------------------------------------------------------------------------------- embedded bytes


def _embedded(config: Config, fs: AbstractFileSystem, path: str) -> Source:
    files = _table_files(config, fs, path)
    assert config.bytes_column
    try:
        with fs.open(files[0]) as file:
            table_schema = pq.ParquetFile(file).schema_arrow
    except Exception as error:  # of the file system, or of the table's content
        raise storage.unusable("read", config.input, error) from error
    carried = _carried(config, table_schema, config.bytes_column)
    _check_bytes(config, table_schema.field(config.bytes_column).type)
    schema = pa.schema([*LISTED, *EMBEDDED, *carried])

    def read() -> Iterator[pa.Table]:
        for name in files:
            try:
                with fs.open(name) as file:
                    for table in _row_groups(pq.ParquetFile(file), list(config.carry)):
                        yield _located(table, storage.url_of(fs, name), schema)
            except Exception as error:  # of the file system, or of the table's content
                raise storage.unusable("read", storage.url_of(fs, name), error) from error

    return Source(schema, read)


def _check_bytes(config: Config, kind: pa.DataType) -> None:
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise UsageError(
            f"column {config.bytes_column!r} of {config.input} holds {kind}, not image bytes"
        )


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
        pa.nulls(rows, pa.int64()),
        [url] * rows,
        pa.array([index] * rows, pa.int32()),
        pa.array(range(rows), pa.int32()),
        *(carried[name] for name in schema.names[5:]),
    ]
    return pa.table(columns, schema=schema)
