"""A file of detections: its name, its bytes, and the few columns that tell what it holds."""

from __future__ import annotations

import dataclasses
import io
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import fsspec.parquet
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from pipeline.errors import RunError
from pipeline.outputs.layout import Layout
from pipeline.outputs.schema import FLOATS, LARGE, STATUSES
from pipeline.store import objects, urls
from pipeline.words import command, explain

# of a file's rows: what counting needs
SUMMARY = ("image_id", "num_detections", "error_code")
# of columns that repeat within a file
DICTIONARY = ("detections.list.element.label", "detections.list.element.label_id")
BYTE_STREAM_SPLIT = [f"detections.list.element.{name}" for name in FLOATS]
# of the random ones in a name
DIGITS = 12
NAME = re.compile(r"status=(ok|error|large)/part-(\d{5,})-(\d{4,})-(\d{12,})-([0-9a-f]+)\.parquet")


@dataclass(frozen=True)
class FileName:
    """The name of a file of detections, which no other write shares.

    Attributes:
        status: of all of its rows, `ok`, `error` or `large`.
        index: number of the slice; it comes first, since stores list by prefix.
        attempt: that wrote it.
        first_id: no image in it has a smaller id.
        random: hexadecimal digits.
    """

    status: str
    index: int
    attempt: int
    first_id: int
    random: str

    @classmethod
    def new(cls, status: str, index: int, attempt: int, first_id: int) -> FileName:
        return cls(status, index, attempt, first_id, uuid.uuid4().hex[:DIGITS])

    def successor(self) -> FileName:
        """Of a file with some of its rows, which takes its place in `order`."""
        random = f"{self.random[:DIGITS]}{uuid.uuid4().hex[:DIGITS]}"
        return dataclasses.replace(self, random=random)

    @property
    def order(self) -> tuple[int, int, int, str]:
        """Of several rows of an image, the one stays whose file comes first by this."""
        statuses = (*STATUSES, LARGE)
        return statuses.index(self.status), -self.attempt, self.first_id, self.random

    @classmethod
    def parse(cls, path: str) -> FileName | None:
        """The name that a path below `detections/` is; None if it is none."""
        match = NAME.fullmatch(path)
        if not match:
            return None
        status, index, attempt, first_id, random = match.groups()
        return cls(status, int(index), int(attempt), int(first_id), random)

    @staticmethod
    def prefix(index: int) -> str:
        """How all names of a slice begin, below the folder of their status."""
        return f"part-{index:05d}-"

    def __str__(self) -> str:
        """The path below `detections/`."""
        return (
            f"status={self.status}/{self.prefix(self.index)}{self.attempt:04d}-"
            f"{self.first_id:012d}-{self.random}.parquet"
        )


def listed(
    layout: Layout, statuses: Sequence[str] = (*STATUSES, LARGE), index: int | None = None
) -> list[FileName]:
    """The files of a slice, or of all; by default those of status `large` last."""
    prefix = "" if index is None else FileName.prefix(index)
    found = []
    for status in statuses:
        folder = f"status={status}"
        names = objects.names(layout.fs, layout.file(folder), prefix)
        found += [FileName.parse(f"{folder}/{name}") for name in names]
    return [name for name in found if name]


def encode(rows: pa.Table, schema: pa.Schema) -> bytes:
    """A Parquet file of rows in order of id, in the given schema."""
    rows = rows.select(schema.names).sort_by("image_id").cast(schema)
    buffer = io.BytesIO()
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    pq.write_table(
        rows.replace_schema_metadata(schema.metadata),
        buffer,
        compression="zstd",
        use_dictionary=[*texts, *DICTIONARY],
        use_byte_stream_split=BYTE_STREAM_SPLIT,
    )
    return buffer.getvalue()


def read(layout: Layout, name: FileName, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a file of a finished output, in these columns or in all.

    Raises:
        RunError: it is damaged or gone.
    """
    path = layout.file(name)
    try:
        data = objects.retrying(lambda: layout.fs.cat_file(path))
        table = pq.ParquetFile(io.BytesIO(data)).read(columns=columns)
        return table if columns is None else table.select(columns)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise RunError(
            f"{layout.url_of(path)} cannot be read ({explain(error)}); "
            f"{command('verify')} {layout.url} tells what else is wrong"
        ) from error


def check_count(layout: Layout, held: int, counted: int, what: str = "images") -> None:
    """
    Raises:
        RunError: the files of a finished output hold another number than its run has counted.
    """
    if held != counted:
        raise RunError(
            f"the files of {layout.url} hold {held:,} {what}, but its run.json counts "
            f"{counted:,}; {command('verify')} {layout.url} tells what is wrong"
        )


def read_columns(fs: AbstractFileSystem, path: str, columns: list[str]) -> pa.Table:
    """Some columns of a Parquet file, without reading the others.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be read.
    """
    if urls.is_local(fs):
        return pq.ParquetFile(path).read(columns=columns)
    with fsspec.parquet.open_parquet_file(path, fs=fs, columns=columns, engine="pyarrow") as file:
        return pq.ParquetFile(file).read(columns=columns)
