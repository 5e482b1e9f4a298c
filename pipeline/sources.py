"""What a run shall process: a listing, a manifest table or embedded bytes, as one stream.

Every source yields Arrow tables of a bounded number of rows. No listing is ever wholly in memory.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from pipeline import storage, tables
from pipeline.access import URI_BYTES
from pipeline.config import Config, UsageError
from pipeline.listing import list_files
from pipeline.schema import ROW

URI_COLUMNS = ("image_uri", "uri", "url", "path", "file_name")

# `object_version` differs where the object's content does, as far as its store tells
LISTED = pa.schema([pa.field("image_uri", pa.string(), nullable=False), ("size_bytes", pa.int64()),
                    ("object_version", pa.int64())])  # fmt: skip
# where the bytes of an embedded image stand
EMBEDDED = pa.schema([("source_uri", pa.string()), ("row_group", pa.int32()), ("row", pa.int32())])


@dataclass(frozen=True)
class Source:
    """An input that can be streamed from its start, more than once.

    Attributes:
        schema: `LISTED`, then `EMBEDDED` where the bytes are in the input, then carried columns.
        read: yields tables of that schema.
        may_repeat: whether a URI can occur twice.
        is_table: whether the images stand in rows.
    """

    schema: pa.Schema
    read: Callable[[], Iterator[pa.Table]]
    may_repeat: bool = False
    is_table: bool = True


def open_source(config: Config) -> Source:
    """The source that `config.input` means.

    Raises:
        UsageError: the input cannot be read, or lacks a column.
    """
    fs, path = storage.filesystem(config.input)
    if config.bytes_column:
        return _embedded(config, fs, path)
    if config.uri_column or tables.is_table(path):
        return _table(config, fs, path)
    if config.carry:
        raise UsageError("carry needs a manifest table or bytes_column; the input is a listing")
    return Source(LISTED, lambda: _listing(config, fs, path), is_table=False)


# ------------------------------------------------------------------------------- listing


def _listing(config: Config, fs: AbstractFileSystem, path: str) -> Iterator[pa.Table]:
    entries = list_files(fs, path, config.extensions)
    try:
        while found := list(islice(entries, tables.BATCH_ROWS)):
            names, sizes, versions = zip(*found, strict=True)
            uris = [storage.url_of(fs, name) for name in names]
            yield pa.table([uris, sizes, versions], schema=LISTED)
    except Exception as error:  # each file system has its own
        raise storage.unusable("read", config.input, error) from error


# ------------------------------------------------------------------------------- tables


def _table(config: Config, fs: AbstractFileSystem, path: str) -> Source:
    files = tables.find(config, fs, path)
    table_schema = tables.schema_of(fs, files[0])
    uri_column = config.uri_column or _uri_column(config, table_schema)
    carried = _carried(config, table_schema, uri_column)
    table_schema = _with_uris(config, table_schema, uri_column, tables.kind_of(files[0]))
    schema = pa.schema([*LISTED, *carried])
    columns = [uri_column, *config.carry]
    # what the other columns hold is no concern of ours
    table_schema = pa.schema([table_schema.field(name) for name in dict.fromkeys(columns)])

    def read() -> Iterator[pa.Table]:
        for name in files:
            folder = posixpath.dirname(storage.public(storage.url_of(fs, name)))
            for batch in tables.batches(fs, name, table_schema):
                uris = [_absolute(uri, folder) for uri in batch[uri_column].to_pylist()]
                unknown = [pa.nulls(len(uris), pa.int64())] * 2
                yield pa.table([uris, *unknown, *map(batch.column, config.carry)], schema=schema)

    return Source(schema, read, may_repeat=True)


def _uri_column(config: Config, schema: pa.Schema) -> str:
    for name in URI_COLUMNS:
        if name in schema.names:
            return name
    raise UsageError(
        f"{storage.public(config.input)} has no column named {', '.join(URI_COLUMNS)}; "
        f"choose one of its columns by uri_column: {', '.join(schema.names)}"
    )


def _with_uris(config: Config, schema: pa.Schema, column: str, kind: str) -> pa.Schema:
    """The schema with a column of texts in the place of URIs."""
    index = schema.get_field_index(column)
    given = schema.field(index).type
    found = given.value_type if pa.types.is_dictionary(given) else given
    # no value at all, or what looks like a date to the reader of JSON
    guessed = pa.types.is_null(found) or (kind != "parquet" and pa.types.is_timestamp(found))
    if guessed:
        return schema.set(index, pa.field(column, pa.string()))
    if found not in (pa.string(), pa.large_string(), pa.string_view()):
        where = storage.public(config.input)
        raise UsageError(f"column {column!r} of {where} holds {found}, not URIs")
    return schema


def _carried(config: Config, schema: pa.Schema, column: str) -> list[pa.Field]:
    for name in (column, *config.carry):
        if name not in schema.names:
            where = storage.public(config.input)
            raise UsageError(f"{where} has no column {name!r}; it has {', '.join(schema.names)}")
    reserved = {*ROW.names, *LISTED.names, *EMBEDDED.names, "status", "encoded"}
    for name in config.carry:
        if name in reserved:
            raise UsageError(f"column {name!r} cannot be carried: the output has one of that name")
        if _is_extended(schema.field(name).type):
            kind = schema.field(name).type
            raise UsageError(
                f"column {name!r} cannot be carried: it is of an extension type, {kind}"
            )
    return [schema.field(name).with_metadata(None) for name in config.carry]


def _is_extended(kind: pa.DataType) -> bool:
    """Whether a type is, or holds, one beside Arrow's own: reading some executes what they hold."""
    if pa.types.is_dictionary(kind):
        return _is_extended(kind.value_type)
    parts = [kind.field(index).type for index in range(kind.num_fields)]
    return isinstance(kind, pa.BaseExtensionType) or any(map(_is_extended, parts))


def _absolute(uri: str | None, folder: str) -> str:
    # a row without URI stays a row: it ends as an error, not as an absence
    text = uri or ""
    if text and "://" not in text and not text.startswith("/"):
        text = f"{folder}/{text}"
    encoded = text.encode()
    if len(encoded) <= URI_BYTES:
        return text
    # still too long to be read, and like no other
    start = encoded[:URI_BYTES].decode(errors="ignore")
    return f"{start}...sha256:{hashlib.sha256(encoded).hexdigest()}"


# ------------------------------------------------------------------------------- embedded bytes


def _embedded(config: Config, fs: AbstractFileSystem, path: str) -> Source:
    if storage.public(config.input) != config.input:
        raise UsageError("bytes_column takes no URL with a query: it would stand in every row")
    files = tables.find(config, fs, path)
    assert config.bytes_column
    try:
        with fs.open(files[0]) as file:
            table_schema = pq.ParquetFile(file).schema_arrow
    except Exception as error:  # of the file system, or of the table's content
        raise tables.unreadable(config.input, error) from error
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
        where = storage.public(config.input)
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
