"""The table of what a run shall process, as it stands in `OUTPUT/_run/manifest/`.

Ids are dense and parts are of one size, so the place of an image follows from its id alone.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import Lease
from pipeline.store import objects

# of a new manifest. Also of those whose manifest.json does not say, which are of version 0.1.
PART_ROWS = 65_536
# one Ray Data execution: bounds what the driver keeps per block and the map of finished ids
SLICE_ROWS = 152 * PART_ROWS

# `object_version` differs where the object's content does, as far as its store tells
LISTED = pa.schema(
    [
        pa.field("image_uri", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64()),
        pa.field("object_version", pa.int64()),
    ]
)
# Where a member of a container lies; null for an image that is a file of its own. What the numbers
# of `source_place` mean, the module of the kind in `pipeline/inputs/containers` says.
MEMBER = pa.schema(
    [
        ("source_uri", pa.string()),
        ("source_kind", pa.string()),
        ("source_place", pa.list_(pa.int64())),
    ]
)

# what is told of a frame of a video, in the manifest and in the output; null for other images
FRAME = pa.schema(
    [
        ("video_uri", pa.string()),
        ("time_seconds", pa.float64()),
        ("frame_index", pa.int64()),
    ]
)


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
        part_rows: images of a part; the last one may have fewer.
        slice_rows: images of a slice, likewise.
    """

    rows: int
    duplicates: int
    columns: list[str]
    fingerprint: str = ""
    known_bytes: int = 0
    refreshed: list[dict[str, Any]] = field(default_factory=list)
    part_rows: int = PART_ROWS
    slice_rows: int = SLICE_ROWS

    @property
    def parts(self) -> range:
        """Numbers of the parts."""
        return range(-(-self.rows // self.part_rows))

    @property
    def slices(self) -> range:
        """Numbers of the slices."""
        return range(-(-self.rows // self.slice_rows))

    def rows_of(self, index: int) -> int:
        """Number of images of a slice."""
        return min(self.slice_rows, self.rows - self.first_id(index))

    def first_id(self, index: int) -> int:
        """Of the images of a slice."""
        return index * self.slice_rows

    def place(self, image_id: int) -> tuple[int, int]:
        """The part of an image, and its row there."""
        return divmod(image_id, self.part_rows)

    def read_part(self, layout: Layout, number: int) -> pa.Table:
        """The rows of a part, with their ids, in one request.

        Raises:
            OSError, pyarrow.ArrowException: it cannot be read.
        """

        def read() -> pa.Table:
            data = layout.fs.cat_file(layout.part(number))
            return pq.read_table(pa.BufferReader(data), partitioning=None).combine_chunks()

        table = _as_now(objects.retrying(read))
        first = number * self.part_rows
        ids = pa.array(np.arange(first, first + table.num_rows), pa.int64())
        return table.add_column(0, pa.field("image_id", pa.int64(), nullable=False), ids)

    def known_part(self, layout: Layout, number: int) -> pa.Table:
        """A part as it was when the manifest was; an interrupted refresh may have added to it."""
        return self.read_part(layout, number).slice(0, self.rows - number * self.part_rows)


def _as_now(table: pa.Table) -> pa.Table:
    """A part that an earlier release wrote, with the columns that parts have now."""
    if "object_version" not in table.column_names:
        version = LISTED.field("object_version")
        place = LISTED.get_field_index("object_version")
        table = table.add_column(place, version, pa.nulls(table.num_rows, version.type))
    if {"source_uri", "row_group", "row"} <= set(table.column_names):  # images of Parquet
        rows = table.num_rows
        numbers = np.stack([table[name].to_numpy() for name in ("row_group", "row")], 1)
        offsets = pa.array(np.arange(0, 2 * rows + 1, 2), pa.int32())
        places = pa.ListArray.from_arrays(offsets, pa.array(numbers.ravel(), pa.int64()))
        first = table.column_names.index("row_group")
        table = table.drop_columns(["row_group", "row"])
        table = table.add_column(first, MEMBER.field("source_place"), places)
        kinds = pa.array(["parquet"] * rows, pa.string())
        table = table.add_column(first, MEMBER.field("source_kind"), kinds)
    return table


def load(layout: Layout, fingerprint: str) -> Manifest | None:
    """The manifest of a run, or None if its writing has not come to an end."""
    content = objects.get_json(layout.fs, layout.manifest)
    found = Manifest(**content) if content else None
    return found if found and found.fingerprint == fingerprint else None


def save(manifest: Manifest, layout: Layout, lease: Lease | None = None) -> None:
    """From now on there is this manifest; not if the lease, where there is one, is lost."""
    _put(layout, layout.manifest, json.dumps(asdict(manifest)).encode(), lease)


def write_part(layout: Layout, number: int, part: pa.Table, lease: Lease | None = None) -> None:
    """Write rows, without their ids; not if the lease, where there is one, is lost."""
    buffer = io.BytesIO()
    pq.write_table(part, buffer, compression="zstd")
    _put(layout, layout.part(number), buffer.getvalue(), lease)


def _put(layout: Layout, path: str, data: bytes, lease: Lease | None) -> None:
    if lease:
        lease.put(path, data)
    else:
        objects.put(layout.fs, path, data)
