"""Table files of each kind as a stream of record batches; no file is ever wholly in memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import chain, islice
from typing import IO, Any

import ijson
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.dataset as ds
import pyarrow.json
from fsspec import AbstractFileSystem

BATCH_ROWS = 8192
# of a text table; no row may be longer
BLOCK_BYTES = 16 * 2**20


def opened(fs: AbstractFileSystem, file: str, compression: str | None) -> IO[bytes]:
    """The file's content, decompressed as it is read."""
    if compression == "zstd":  # fsspec has no codec for it of its own
        return pa.CompressedInputStream(fs.open(file), compression)  # type: ignore[no-any-return]
    return fs.open(file, compression=compression)  # type: ignore[no-any-return]


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
        """The columns, by the first rows."""
        if self.kind == "parquet":
            return self._parquet().schema
        if self.kind in ("arrow", "feather"):
            return self._arrow()[0]
        if self.kind == "json":
            return self._json_schema()
        if self.kind in ("jsonl", "ndjson"):
            return self._lines().schema
        # all as text: a type guessed from the first rows may fail a million rows later
        return pa.schema([(name, pa.string()) for name in self._csv_names()])

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The rows in the columns of the schema, null where the file lacks one of them."""
        if self.kind == "parquet":
            yield from self._parquet(schema).to_batches(batch_size=BATCH_ROWS)
        elif self.kind in ("arrow", "feather"):
            for batch in self._arrow()[1]:
                yield _in_columns(batch, schema)
        elif self.kind == "json":
            rows = self._rows()
            while some := list(islice(rows, BATCH_ROWS)):
                yield pa.RecordBatch.from_pylist(some, schema)
        elif self.kind in ("jsonl", "ndjson"):
            yield from self._lines(schema)
        else:
            yield from self._csv(schema)

    def _open(self) -> IO[bytes]:
        return opened(self.fs, self.file, self.compression)

    def _parquet(self, schema: pa.Schema | None = None) -> ds.Dataset:
        return ds.dataset(
            self.file, schema=schema, filesystem=self.fs, format="parquet", partitioning=None
        )

    def _arrow(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Of both forms of Arrow's IPC, with a table of contents at the end and without."""
        file = self._open()
        has_contents = file.read(6) == b"ARROW1"
        file.seek(0)
        if not has_contents:
            stream = pa.ipc.open_stream(file)
            return stream.schema, iter(stream)
        whole = pa.ipc.open_file(file)
        return whole.schema, map(whole.get_batch, range(whole.num_record_batches))

    def _lines(self, schema: pa.Schema | None = None) -> pyarrow.json.JSONStreamingReader:
        # Arrow's dataset of a JSON file gives nulls for a single line without a line end
        return pyarrow.json.open_json(
            self._open(),
            read_options=pyarrow.json.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore" if schema else "infer"
            ),
        )

    def _csv_names(self) -> list[str]:
        names = self._open_csv().schema.names
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"it has multiple columns named {name}")
        return list(names)

    def _csv(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        self._csv_names()
        convert = csv.ConvertOptions(
            column_types=schema, include_columns=schema.names, include_missing_columns=True
        )
        yield from self._open_csv(convert)

    def _open_csv(self, convert: csv.ConvertOptions | None = None) -> csv.CSVStreamingReader:
        if self.kind == "txt":  # one column, since no line holds the separator
            parse = csv.ParseOptions(delimiter="\x01", quote_char=False)
            names = ["uri"]
        else:
            delimiter = "\t" if self.kind == "tsv" else ","
            parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
            names = None
        read = csv.ReadOptions(column_names=names, block_size=BLOCK_BYTES)
        return csv.open_csv(self._open(), read, parse, convert)

    def _json_schema(self) -> pa.Schema:
        rows = list(islice(self._rows(), BATCH_ROWS))
        if not rows:
            raise ValueError("it is no list of texts or objects, and has none as `images`")
        names = dict.fromkeys(chain.from_iterable(rows))
        return pa.table({name: [row.get(name) for row in rows] for name in names}).schema

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Of a list, or of the list `images` of an object, as annotations have it."""
        with self._open() as file:
            head = file.read(2**16)
        with self._open() as file:
            if head.startswith(codecs.BOM_UTF8):
                file.read(len(codecs.BOM_UTF8))
                head = head.removeprefix(codecs.BOM_UTF8)
            prefix = "images.item" if head.lstrip().startswith(b"{") else "item"
            yield from map(_row, ijson.items(file, prefix, use_float=True))


def _row(item: Any) -> dict[str, Any]:
    if isinstance(item, dict):
        return item
    if isinstance(item, str | None):
        return {"uri": item}
    raise ValueError(f"an item of it is neither a text nor an object: {item!r:.100}")


def _in_columns(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        batch[field.name].cast(field.type)
        if field.name in batch.schema.names
        else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
