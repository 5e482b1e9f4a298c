"""Files of tables on any store: which ones there are, and how they are streamed."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.dataset as ds
import pyarrow.json
from fsspec import AbstractFileSystem

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs.listing import list_files
from pipeline.store import failures, urls

EXTENSIONS = ("parquet", "csv", "jsonl", "ndjson", "txt")
BATCH_ROWS = 8192
# of a text table; no row may be longer
BLOCK_BYTES = 16 * 2**20


def kind_of(path: str) -> str:
    """The extension of a table, without `.gz`; empty if it is none."""
    name = posixpath.basename(urls.public(path)).lower().removesuffix(".gz")
    _, dot, extension = name.rpartition(".")
    return extension if dot and extension in EXTENSIONS else ""


def is_table(path: str) -> bool:
    """Whether a path means a table of URIs, not an image or a folder of them."""
    # the failed images of a run are a manifest of their own
    return bool(kind_of(path)) or posixpath.basename(path.rstrip("/")) == "status=error"


def find(config: Config, fs: AbstractFileSystem, path: str) -> list[str]:
    """The paths of the tables at, below or matching a path.

    Raises:
        UsageError: there is none, or they are of several kinds.
    """
    extensions = ("parquet",) if config.bytes_column else (*EXTENSIONS, "gz")
    try:
        files = [name for name, *_ in list_files(fs, path, extensions) if kind_of(name)]
    except Exception as error:  # each file system has its own
        raise failures.unusable("read", config.input, error) from error
    if not files:
        raise UsageError(f"no table ({', '.join(extensions)}) at {urls.public(config.input)}")
    if len({kind_of(name) for name in files}) > 1:
        where = urls.public(config.input)
        raise UsageError(f"{where} mixes tables of several kinds; choose one by a glob")
    return files


def schema_of(fs: AbstractFileSystem, file: str) -> pa.Schema:
    """The columns of a table file, by its first rows.

    Raises:
        UsageError: it is none.
    """
    try:
        return (_json(fs, file) if _is_json(file) else _dataset(fs, file)).schema
    except Exception as error:  # of the file system, or of the table's content
        raise unreadable(urls.url_of(fs, file), error) from error


def batches(fs: AbstractFileSystem, file: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of a table file in the columns of the schema, at most `BATCH_ROWS` at a time.

    Raises:
        UsageError: it is none, or damaged, or its columns are of other types.
    """
    try:
        if _is_json(file):
            read: Iterable[pa.RecordBatch] = _json(fs, file, schema)
        else:
            read = _dataset(fs, file, schema).to_batches(batch_size=BATCH_ROWS)
        for batch in read:
            batch.validate(full=True)
            for start in range(0, batch.num_rows, BATCH_ROWS):
                yield batch.select(schema.names).slice(start, BATCH_ROWS)
    except Exception as error:  # of the file system, or of the table's content
        raise unreadable(urls.url_of(fs, file), error) from error


def _is_json(file: str) -> bool:
    return kind_of(file) in ("jsonl", "ndjson")


def _json(
    fs: AbstractFileSystem, file: str, schema: pa.Schema | None = None
) -> pyarrow.json.JSONStreamingReader:
    # Arrow's dataset of a JSON file gives nulls for a single line without a line end
    zipped = urls.public(file).lower().endswith(".gz")
    return pyarrow.json.open_json(
        fs.open(file, compression="gzip" if zipped else None),
        read_options=pyarrow.json.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore" if schema else "infer"
        ),
    )


def _dataset(fs: AbstractFileSystem, file: str, schema: pa.Schema | None = None) -> ds.Dataset:
    kind = kind_of(file)
    form: Any = kind
    if kind == "csv":
        form = ds.CsvFileFormat(
            parse_options=csv.ParseOptions(newlines_in_values=True),
            read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
        )
    elif kind == "txt":  # one column, since no line holds the separator
        form = ds.CsvFileFormat(
            parse_options=csv.ParseOptions(delimiter="\x01", quote_char=False),
            read_options=csv.ReadOptions(column_names=["uri"], block_size=BLOCK_BYTES),
        )
        schema = pa.schema({"uri": pa.string()})
    if kind == "csv" and not schema:
        # all as text: a type guessed from the first rows may fail a million rows later
        names = ds.dataset(file, filesystem=fs, format=form).schema.names
        schema = pa.schema([(name, pa.string()) for name in names])
    return ds.dataset(file, schema=schema, filesystem=fs, format=form, partitioning=None)


def unreadable(url: str, error: Exception) -> UsageError:
    """The clear line for a table that cannot be read."""
    if "straddling object" in str(error):  # Arrow's words
        reason = f"a row of it is longer than {BLOCK_BYTES:,} bytes"
        return UsageError(f"cannot read {urls.public(url)}: {reason}")
    return failures.unusable("read", url, error)
