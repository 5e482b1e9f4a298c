"""The table of what a run shall process, kept in `OUTPUT/_run/manifest/`.

Ids are dense and parts are of one size, so the place of an image follows from its id alone.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from pipeline import objects, storage
from pipeline.config import Config, UsageError
from pipeline.digests import Digested, repeats
from pipeline.sources import LISTED, Source, open_source

PART_ROWS = 65_536
# one Ray Data execution: bounds what the driver keeps per block and the map of finished ids
SLICE_ROWS = 152 * PART_ROWS
LOCATION = ("source_uri", "row_group", "row")


@dataclass(frozen=True)
class Manifest:
    """What is known of a finished manifest.

    Attributes:
        rows: number of images; their ids are 0 to rows - 1.
        duplicates: rows of the input left out since their URI had come before.
        columns: names of the carried columns.
        fingerprint: of the run that it belongs to.
        known_bytes: sum of the images' encoded sizes, of those that are known.
        refreshed: when the input was listed again, and how many images were new, had changed, or
            were gone.
    """

    rows: int
    duplicates: int
    columns: list[str]
    fingerprint: str = ""
    known_bytes: int = 0
    refreshed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def slices(self) -> range:
        return range(-(-self.rows // SLICE_ROWS))

    def slice_rows(self, index: int) -> int:
        """Number of images of a slice."""
        return min(SLICE_ROWS, self.rows - index * SLICE_ROWS)


def load(fs: AbstractFileSystem, folder: str, fingerprint: str) -> Manifest | None:
    """The manifest of a run, or None if its writing has not come to an end."""
    content = objects.get_json(fs, f"{folder}/manifest.json")
    found = Manifest(**content) if content else None
    return found if found and found.fingerprint == fingerprint else None


def write(
    config: Config,
    fs: AbstractFileSystem,
    folder: str,
    fingerprint: str,
    source: Source | None = None,
) -> Manifest:
    """List the input into the manifest's parts; what an interrupted listing left is replaced.

    Args:
        config: the run's.
        fs: file system of the output.
        folder: the path of `_run/` there.
        fingerprint: of the run.
        source: in the place of all that the input holds.

    Raises:
        UsageError: the input cannot be read, or holds no image.
    """
    source = source or open_source(config)
    counted = Counted()
    written = write_parts(fs, folder, unique(source, config.limit, counted), 0)
    check_not_empty(config, source, written)
    columns = [name for name in source.schema.names if name not in (*LISTED.names, *LOCATION)]
    manifest = Manifest(written.rows, counted.duplicates, columns, fingerprint, written.known_bytes)
    save(manifest, fs, folder)
    return manifest


def write_parts(
    fs: AbstractFileSystem, folder: str, tables: Iterator[pa.Table], number: int
) -> Counted:
    """Write rows, without their ids, as the parts from a number on; there are no others after."""
    counted = Counted()
    for part in _parts(tables):
        write_part(fs, folder, number, part)
        counted.add(part)
        number += 1
    for name in objects.names(fs, f"{folder}/manifest"):  # of a listing that found more
        if name >= part_path("", number).rpartition("/")[2]:
            objects.delete(fs, f"{folder}/manifest/{name}")
    return counted


def write_part(fs: AbstractFileSystem, folder: str, number: int, part: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(part, buffer, compression="zstd")
    objects.put(fs, part_path(folder, number), buffer.getvalue())


def save(manifest: Manifest, fs: AbstractFileSystem, folder: str) -> None:
    """From now on there is this manifest."""
    objects.put(fs, f"{folder}/manifest.json", json.dumps(asdict(manifest)).encode())


def count(config: Config) -> Manifest:
    """What `write` would find, without writing anything."""
    source = open_source(config)
    counted = Counted()
    for table in unique(source, config.limit, counted):
        counted.add(table)
    check_not_empty(config, source, counted)
    return Manifest(counted.rows, counted.duplicates, [], known_bytes=counted.known_bytes)


def read_part(fs: AbstractFileSystem, folder: str, number: int) -> pa.Table:
    """The rows of a part, with their ids, in one request.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be read.
    """

    def read() -> pa.Table:
        data = fs.cat_file(part_path(folder, number))
        return pq.read_table(pa.BufferReader(data), partitioning=None).combine_chunks()

    table = objects.retrying(read)
    if "object_version" not in table.column_names:  # of an earlier release
        version = LISTED.field("object_version")
        place = LISTED.get_field_index("object_version")
        table = table.add_column(place, version, pa.nulls(table.num_rows, version.type))
    first = number * PART_ROWS
    ids = pa.array(np.arange(first, first + table.num_rows), pa.int64())
    return table.add_column(0, pa.field("image_id", pa.int64(), nullable=False), ids)


@lru_cache(maxsize=2)
def row_group_bytes(uri: str, group: int, column: str) -> pa.ChunkedArray:
    """The encoded images of a row group; kept, since consecutive images share it.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be read.
    """

    def read() -> pa.Table:
        fs, path = storage.filesystem(uri)
        with fs.open(path) as file:
            return pq.ParquetFile(file).read_row_group(group, columns=[column])

    values = objects.retrying(read)[column]
    if pa.types.is_struct(values.type):
        index = values.type.get_field_index("bytes")
        values = pa.chunked_array([chunk.field(index) for chunk in values.chunks])
    # each file has its own types, and reading values of some executes what they hold
    if not (pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)):
        raise pa.ArrowTypeError(f"column {column!r} of {uri} holds {values.type}")
    return values


def part_path(folder: str, number: int) -> str:
    """Where a part of `PART_ROWS` rows stands, `folder` being `OUTPUT/_run`."""
    return f"{folder}/manifest/part-{number:06d}.parquet"


@dataclass
class Counted:
    """Rows written, their sizes as far as they are known, and rows left out so far."""

    rows: int = 0
    known_bytes: int = 0
    duplicates: int = 0

    def add(self, rows: pa.Table) -> None:
        self.rows += rows.num_rows
        self.known_bytes += pc.sum(rows["size_bytes"]).as_py() or 0


def check_not_empty(config: Config, source: Source, counted: Counted) -> None:
    if not counted.rows:
        where, wanted = storage.public(config.input), ", ".join(config.extensions)
        if source.is_table:
            raise UsageError(f"no images in {where}: the table has no rows")
        raise UsageError(f"no images under {where} (looked for {wanted})")


def _parts(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of `PART_ROWS`, the last one shorter."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        while rows >= PART_ROWS:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, PART_ROWS)
            waiting, rows = [whole.slice(PART_ROWS)], rows - PART_ROWS
    if rows:
        yield pa.concat_tables(waiting)


def unique(source: Source, limit: int | None, counted: Counted) -> Iterator[pa.Table]:
    """The source's rows without repeated URIs, at most `limit` of them."""
    repeated = _repeats(source) if source.may_repeat else np.empty(0, np.int64)
    first = kept = 0
    for table in source.read():
        last = first + table.num_rows
        low, high = np.searchsorted(repeated, [first, last])
        if high > low:
            keep = np.ones(table.num_rows, bool)
            keep[repeated[low:high] - first] = False
            table = table.filter(pa.array(keep))
        first = last
        if limit is not None:
            table = table.slice(0, limit - kept)
        counted.duplicates += int(high - low)
        kept += table.num_rows
        yield table
        if limit is not None and kept >= limit:
            return


def _repeats(source: Source) -> np.ndarray:
    """Sorted row numbers of every occurrence of a URI after its first."""
    found, first = [], 0
    with Digested("row") as rows:
        for table in source.read():
            last = first + table.num_rows
            rows.add(table["image_uri"], np.arange(first, last))
            first = last
        for records in rows:
            records = np.sort(records)
            found.append(records["row"][repeats(records)])
    return np.sort(np.concatenate(found))
