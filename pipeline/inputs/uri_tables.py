"""Tables whose rows name images by their URIs."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from fsspec import AbstractFileSystem

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import tables
from pipeline.inputs.containers.parquet import image_columns, open_embedded
from pipeline.inputs.exclusions import COMMENTS, EMPTY
from pipeline.inputs.references import absolute
from pipeline.inputs.source import Source, carried_fields
from pipeline.outputs.manifest import LISTED
from pipeline.store import urls

# Lines of a text list that name nothing. No name is of blanks alone; one that begins like a
# comment can be written `./# ...`.
COMMENT = r"(?s)\A(#|#\s.*|\s*)\z"
URI_COLUMNS = ("image_uri", "uri", "url", "path", "file_name")


def open_table(config: Config, fs: AbstractFileSystem, path: str) -> Source:
    """The images that the tables at, below or matching a path name.

    Or hold, where they have no column of URIs and one of images.

    Raises:
        UsageError: there is no table, or it lacks a column.
    """
    passed: Counter[str] = Counter()
    files = tables.find(config, fs, path, passed)
    table_schema = tables.schema_of(fs, files)
    kind = tables.kind_of(files[0])
    uri_column = config.uri_column or uri_column_of(table_schema)
    if not uri_column and kind in tables.GROUPED and image_columns(table_schema):
        return open_embedded(config, fs, path, files)
    if not uri_column:
        raise UsageError(
            f"{urls.public(config.input)} has no column named {', '.join(URI_COLUMNS)}; choose "
            f"one of its columns with uri_column: {', '.join(table_schema.names)}"
        )
    carried = carried_fields(config, table_schema, uri_column)
    named = with_uris(config, table_schema, uri_column, kind).field(uri_column).with_metadata(None)
    others = tables.typed(fs, files, [field for field in carried if field.name != uri_column])
    # what the other columns hold is no concern of ours
    wanted = pa.schema([named, *others])
    schema = pa.schema([*LISTED, *map(wanted.field, config.carry)])
    read = partial(_read, fs, files, wanted, config.carry, schema, passed)
    return Source(schema, read, may_repeat=True, passed=passed)


def _read(
    fs: AbstractFileSystem,
    files: list[str],
    wanted: pa.Schema,
    carry: Sequence[str],
    schema: pa.Schema,
    passed: Counter[str],
) -> Iterator[pa.Table]:
    for reason in (COMMENTS, EMPTY):
        passed.pop(reason, None)
    column = wanted.names[0]
    for name in files:
        is_list, rows = tables.kind_of(name) == "txt", 0
        folder = posixpath.dirname(urls.public(urls.url_of(fs, name)))
        for batch in tables.batches(fs, name, wanted):
            if not rows and batch[column].null_count == batch.num_rows:
                _check_column(fs, name, column)
            rows += batch.num_rows
            if is_list:
                batch = _without_comments(batch, passed)
            uris = [absolute(uri, folder) for uri in batch[column].to_pylist()]
            unknown = [pa.nulls(len(uris), pa.int64())] * 2
            yield pa.table([uris, *unknown, *map(batch.column, carry)], schema=schema)
        if not rows:
            passed[EMPTY] += 1


def _check_column(fs: AbstractFileSystem, file: str, column: str) -> None:
    if column not in (names := tables.schema_of(fs, [file]).names):
        where = urls.public(urls.url_of(fs, file))
        raise UsageError(
            f"{where} has no column {column!r}; it has {', '.join(names)}: rename one of them, "
            "or leave the file out"
        )


def _without_comments(batch: pa.RecordBatch, passed: Counter[str]) -> pa.RecordBatch:
    kept = batch.filter(pc.invert(pc.match_substring_regex(batch["uri"], COMMENT)))
    if left_out := batch.num_rows - kept.num_rows:
        passed[COMMENTS] += left_out
    return kept


def uri_column_of(schema: pa.Schema) -> str | None:
    """The first of `URI_COLUMNS` that there is."""
    return next((name for name in URI_COLUMNS if name in schema.names), None)


def with_uris(config: Config, schema: pa.Schema, column: str, kind: str) -> pa.Schema:
    """The schema with a column of texts in the place of URIs.

    Raises:
        UsageError: the column holds something else.
    """
    index = schema.get_field_index(column)
    given = schema.field(index).type
    found = given.value_type if pa.types.is_dictionary(given) else given
    # no value at all, or what looks like a date to the reader of JSON
    guessed = pa.types.is_null(found) or (kind != "parquet" and pa.types.is_timestamp(found))
    if guessed:
        return schema.set(index, pa.field(column, pa.string()))
    if found not in (pa.string(), pa.large_string(), pa.string_view()):
        where = urls.public(config.input)
        raise UsageError(f"column {column!r} of {where} holds {found}, not URIs")
    return schema
