"""Files of tables on any store: which ones there are, and how they are streamed."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
from fsspec import AbstractFileSystem

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import exclusions, globs, json_tables, readers
from pipeline.inputs.listing import list_files
from pipeline.store import failures, urls

# by their ending, in any case
TEXTS = ("csv", "tsv", "jsonl", "ndjson", "json", "txt")
KINDS = ("parquet", "arrow", "feather", *TEXTS)
# those that are read in groups of rows, and so may hold images themselves
GROUPED = ("parquet", "arrow", "feather")
# of texts: ending, and fsspec's name
COMPRESSIONS = {"gz": "gzip", "bz2": "bz2", "xz": "xz", "zst": "zstd"}


def kind_of(path: str) -> str:
    """One of `KINDS`; empty if the path is no table's."""
    return _form(path)[0]


def _form(path: str) -> tuple[str, str | None]:
    """The kind of a table and its compression."""
    name = posixpath.basename(urls.public(path)).lower()
    stem, _, last = name.rpartition(".")
    compression = COMPRESSIONS.get(last)
    _, dot, extension = (stem if compression else name).rpartition(".")
    known = TEXTS if compression else KINDS
    return (extension, compression) if dot and extension in known else ("", None)


def is_table(path: str) -> bool:
    """Whether a path means a table of URIs, not an image or a folder of them."""
    # the failed images of a run are a manifest of their own
    failed = posixpath.basename(path.rstrip("/")) == "status=error"
    return failed or any(map(kind_of, globs.expanded(path)))


def find(
    config: Config, fs: AbstractFileSystem, path: str, passed: Counter[str] | None = None
) -> list[str]:
    """The paths of the tables at, below or matching a path.

    JSON only where the path says so: in folders it is as often notes beside a table.

    Args:
        config: the run's.
        fs: of the input.
        path: likewise.
        passed: counts the other files, as `list_files` does.

    Raises:
        UsageError: there is none, or they are of several kinds.
    """
    named = set(map(kind_of, globs.expanded(path)))
    kinds = tuple(kind for kind in KINDS if kind != "json" or kind in named)
    extensions = GROUPED if config.bytes_column else (*kinds, *COMPRESSIONS)
    try:
        listed = list_files(fs, path, extensions, passed, exclusions.reasons())
        files = [name for name, *_ in listed if kind_of(name) in kinds]
    except Exception as error:  # each file system has its own
        raise failures.unusable("read", config.input, error) from error
    if not files:
        raise UsageError(f"no table ({', '.join(extensions)}) at {urls.public(config.input)}")
    if len({kind_of(name) for name in files}) > 1:
        where = urls.public(config.input)
        raise UsageError(f"{where} has tables of several kinds; choose one kind with a glob")
    return files


def schema_of(fs: AbstractFileSystem, files: list[str]) -> pa.Schema:
    """The columns of tables, by the first rows of the first that has any. Types in JSON are null.

    Raises:
        UsageError: a file is no table, or all are empty.
    """
    for file in files:
        try:
            found = readers.Reader(fs, file, *_form(file)).schema()
        except Exception as error:  # of the file system, or of the table's content
            raise unreadable(urls.url_of(fs, file), error) from error
        if found.names:
            return found
    raise UsageError(f"cannot read {urls.public(urls.url_of(fs, files[0]))}: it is empty")


def typed(fs: AbstractFileSystem, files: list[str], fields: list[pa.Field]) -> list[pa.Field]:
    """Columns of `schema_of`, with types that hold the values in all rows.

    Raises:
        UsageError: a file is no table, or a column has values of types that have none in common.
    """
    if not fields or kind_of(files[0]) not in ("json", *readers.LINES):
        return fields
    found = pa.schema(fields)
    for file in files:
        try:
            for schema in readers.Reader(fs, file, *_form(file)).types(found.names):
                found = json_tables.widened(found, schema)
        except Exception as error:  # of the file system, or of the table's content
            raise unreadable(urls.url_of(fs, file), error) from error
    return list(found)


def batches(fs: AbstractFileSystem, file: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of a table file in the columns of the schema, at most `BATCH_ROWS` at a time.

    Raises:
        UsageError: it is none, or damaged, or its columns are of other types.
    """
    try:
        for batch in readers.Reader(fs, file, *_form(file)).batches(schema):
            batch.validate(full=True)
            for start in range(0, batch.num_rows, readers.BATCH_ROWS):
                yield batch.select(schema.names).slice(start, readers.BATCH_ROWS)
    except Exception as error:  # of the file system, or of the table's content
        raise unreadable(urls.url_of(fs, file), error) from error


def unreadable(url: str, error: Exception) -> UsageError:
    """The clear line for a table that cannot be read."""
    what = "a text in it" if "Invalid UTF8" in str(error) else ""  # Arrow's words
    if isinstance(error, UnicodeDecodeError):
        what = f"byte {error.object[error.start]:#x}"
    if what:
        where = urls.public(url)
        return UsageError(f"cannot read {where}: {what} is not UTF-8; save the file as UTF-8")
    return failures.unusable("read", url, error)
