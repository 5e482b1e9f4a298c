"""Table files of each kind as a stream of record batches; no file is ever wholly in memory.

Arrow's own streams of CSV and JSON read ahead on a thread. Where that calls a file of Python's, and
outlives the reading, the process dies or hangs at its exit. So nothing here is read but when asked.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.compression import compr
from fsspec.implementations.local import LocalFileSystem

from pipeline.inputs import arrow_ipc, json_tables
from pipeline.inputs.columns import converted
from pipeline.store import objects

BATCH_ROWS = 8192
# of a text table; no row may be longer
BLOCK_BYTES = 16 * 2**20
# kinds of JSON with an object on each line
LINES = ("jsonl", "ndjson")
csv.field_size_limit(BLOCK_BYTES)


def opened(fs: AbstractFileSystem, file: str, compression: str | None) -> IO[bytes]:
    """The file's content, decompressed as it is read.

    Of a web server that gives no ranges, all of it is copied to the disk first.
    """
    has_ranges = "http" not in fs.protocol or _has_ranges(fs, file)
    content = objects.opened(fs, file) if has_ranges else _copied(fs, file)
    if not has_ranges and compression == "gzip" and not _is_gzip(content):
        compression = None  # by a server that says `Content-Encoding: gzip`, it came unpacked
    if compression == "zstd":  # fsspec has no codec for it of its own
        return pa.CompressedInputStream(content, compression)  # type: ignore[no-any-return]
    return compr[compression](content, mode="rb")  # type: ignore[no-any-return]


def _has_ranges(fs: AbstractFileSystem, file: str) -> bool:
    size = objects.retrying(lambda: fs.size(file))
    return size is not None and objects.gives_ranges(fs, file, size)


def _copied(fs: AbstractFileSystem, file: str) -> IO[bytes]:
    """A copy that is gone once nobody reads it."""
    with tempfile.NamedTemporaryFile() as copy:
        objects.retrying(lambda: fs.get_file(file, copy.name))
        return LocalFileSystem().open(copy.name)  # type: ignore[no-any-return]


def _is_gzip(content: IO[bytes]) -> bool:
    start = content.read(2)
    content.seek(0)
    return start == b"\x1f\x8b"


class Reader:
    """A table file.

    Args:
        fs: of the file.
        file: its path.
        kind: one of `tables.KINDS`.
        compression: by fsspec's name; None where there is none.
    """

    def __init__(
        self, fs: AbstractFileSystem, file: str, kind: str, compression: str | None
    ) -> None:
        self.fs, self.file, self.kind, self.compression = fs, file, kind, compression

    def schema(self) -> pa.Schema:
        """The columns, by the first rows; none where there are none. Types in JSON are null."""
        if self.kind == "parquet":
            return self._parquet().schema_arrow
        if self.kind in ("arrow", "feather"):
            return arrow_ipc.read(self._open(), [])[0]
        if self.kind == "json":
            return pa.schema([(name, pa.null()) for name in self._json_names()])
        if self.kind in LINES:
            names = next(map(json_tables.names, self._blocks()), [])
            return pa.schema([(name, pa.null()) for name in names])
        # all as text: a type guessed from the first rows may fail a million rows later
        return pa.schema([(name, pa.string()) for name in self._csv_names()])

    def types(self, names: Sequence[str]) -> Iterator[pa.Schema]:
        """Of columns of JSON, in some rows after the other, until all were looked at."""
        if self.kind == "json":
            rows = json_tables.rows(self._open)
            while some := list(islice(rows, BATCH_ROWS)):
                yield json_tables.types_of_rows(some, names)
        else:
            for block in self._blocks():
                yield json_tables.types_of_lines(block, names)

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The rows in the columns of the schema, null where the file lacks one of them."""
        if self.kind == "parquet":
            file = self._parquet()
            known = file.schema_arrow.names
            _check_names(known, schema)
            wanted = [name for name in schema.names if name in known]
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False):
                yield _in_columns(batch, schema)
        elif self.kind in ("arrow", "feather"):
            found, batches = arrow_ipc.read(self._open(), schema.names)
            _check_names(found.names, schema)
            for batch in batches:
                yield _in_columns(batch, schema)
        elif self.kind == "json":
            rows = json_tables.rows(self._open)
            while some := list(islice(rows, BATCH_ROWS)):
                columns = [json_tables.column(some, field.name, field.type) for field in schema]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
        elif self.kind in LINES:
            for block in self._blocks():
                yield from json_tables.table(block, schema).to_batches()
        else:
            yield from self._csv(schema)

    def _open(self) -> IO[bytes]:
        return opened(self.fs, self.file, self.compression)

    def _parquet(self) -> pq.ParquetFile:
        # with a buffer in advance all row groups would be read at once
        return pq.ParquetFile(self._open(), pre_buffer=False)

    def _blocks(self) -> Iterator[bytes]:
        with self._open() as file:
            yield from json_tables.blocks(file, BLOCK_BYTES)

    def _json_names(self) -> list[str]:
        rows = list(islice(json_tables.rows(self._open), BATCH_ROWS))
        if not rows:
            raise ValueError("it is not a list of texts or objects, and has none under `images`")
        return list(dict.fromkeys(chain.from_iterable(rows)))

    def _text(self) -> Iterator[str]:
        """The lines with their ends."""
        with self._open() as file:
            text = io.TextIOWrapper(file, "utf-8-sig", newline="")
            while line := text.readline(BLOCK_BYTES):
                if len(line) == BLOCK_BYTES:
                    raise ValueError(f"it has a row of more than {BLOCK_BYTES:,} bytes")
                yield line

    def _csv_rows(self) -> Iterator[list[str]]:
        """Those that are not empty; the names come first."""
        reader = csv.reader(
            self._text(), delimiter="\t" if self.kind == "tsv" else ",", strict=True
        )
        width = 0
        try:
            for row in filter(None, reader):
                if len(row) != (width := width or len(row)):
                    what = f"Expected {width} columns, got {len(row)}"
                    raise ValueError(f"line {reader.line_num}: {what}")
                yield row
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}") from error

    def _csv_names(self) -> list[str]:
        if self.kind == "txt":
            return ["uri"]
        return next(self._csv_rows(), [])

    def _csv(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        names = self._csv_names()
        _check_names(names, schema)
        if self.kind == "txt":
            lines = (line.rstrip("\r\n") for line in self._text())
            rows: Iterator[list[str]] = ([line] for line in lines if line)
        else:
            rows = islice(self._csv_rows(), 1, None)
        while some := list(islice(rows, BATCH_ROWS)):
            columns = dict(zip(names, zip(*some, strict=True), strict=True))
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array(columns.get(field.name, [None] * len(some)), field.type)
                    for field in schema
                ],
                schema=schema,
            )


def _check_names(names: list[str], wanted: pa.Schema) -> None:
    for name in wanted.names:
        if names.count(name) > 1:
            raise ValueError(f"it has several columns {name!r}; rename all but one of them")


def _in_columns(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        converted(batch[field.name], field)
        if field.name in batch.schema.names
        else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
