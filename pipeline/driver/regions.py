"""The regions of a slice's large images: an output of their own, below the run's, while at work."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.driver.planner import ERROR, Planner, Row
from pipeline.inputs import enumeration
from pipeline.outputs import manifest
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import LISTED, Manifest
from pipeline.stages.regions import FIELDS
from pipeline.store import objects

Check = Callable[[], None] | None
# images whose regions are in memory
PLANNED = 16
SCHEMA = pa.schema([*LISTED, *FIELDS])
# Of each image: its regions are numbers `first` to `first + regions - 1`, its overview the first of
# them. One that cannot be read in windows has none, and the error of its row.
IMAGES = pa.schema(
    [
        ("image_id", pa.int64()),
        ("first", pa.int64()),
        ("regions", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        *((name, pa.string()) for name in ERROR),
    ]
)


@dataclass(frozen=True)
class Regions:
    """The output of the regions of some large images.

    Attributes:
        layout: of it.
        manifest: of the regions.
        images: of `IMAGES`, in order of id.
    """

    layout: Layout
    manifest: Manifest
    images: pa.Table


def _names(layout: Layout, index: int) -> list[str]:
    names = objects.names(layout.fs, layout.windows)
    return [name for name in names if name.startswith(f"{index:05d}-")]


def remove(layout: Layout, index: int, check: Check) -> None:
    """Remove what there is of a slice's regions; `check` is that of `objects.put`."""
    for name in _names(layout, index):
        _remove(layout, name, check)


def _remove(layout: Layout, name: str, check: Check) -> None:
    inner = _inner(layout, name)
    # first, so that what is left of it is nobody's manifest
    objects.delete(inner.fs, inner.manifest, check)
    objects.delete_folder(inner.fs, inner.root, check)


def _inner(layout: Layout, name: str) -> Layout:
    return Layout.of(layout.url_of(f"{layout.windows}/{name}"))


def load(
    layout: Layout, index: int, mark: str, ids: np.ndarray, check: Check = None
) -> Regions | None:
    """The regions of images of a slice, if an earlier attempt has written all of their rows.

    Args:
        layout: of the run's output.
        index: number of the slice.
        mark: the run's fingerprint.
        ids: of the images. What holds not all of them is of other ones, and removed.
        check: that of `objects.put`.
    """
    for name in _names(layout, index):
        inner = _inner(layout, name)
        if known := manifest.load(inner, mark):
            images = pq.read_table(pa.BufferReader(objects.get(inner.fs, _images(inner))))
            if np.isin(ids, images["image_id"].to_numpy()).all():
                return Regions(inner, known, images)
        _remove(layout, name, check)
    return None


def _images(inner: Layout) -> str:
    return f"{inner.run}/images.parquet"


def write(
    layout: Layout,
    index: int,
    mark: str,
    images: Iterator[Row],
    planner: Planner,
    check: Callable[[], None],
) -> Regions:
    """Find out the regions of images, and make a manifest of them.

    Args:
        layout: of the run's output.
        index: number of the slice.
        mark: the run's fingerprint.
        images: `image_id`, `image_uri` and `image_bytes` of each, in order of id.
        planner: of the run.
        check: see `large.detect`.
    """
    # a name that no other one has: what a writer of an earlier attempt still writes, nobody reads
    inner = _inner(layout, f"{index:05d}-{uuid.uuid4().hex[:12]}")
    found: list[pa.Table] = []
    first = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal first
        while some := list(islice(images, PLANNED)):
            rows = list(planner.rows(some, first, check))
            found.append(pa.Table.from_pylist([image for image, _ in rows], schema=IMAGES))
            regions = [region for _, regions in rows for region in regions]
            first += len(regions)
            yield pa.Table.from_pylist(regions, schema=SCHEMA)

    written = enumeration.write_parts(inner, tables(), 0, manifest.PART_ROWS)
    images_table = pa.concat_tables([IMAGES.empty_table(), *found])
    buffer = io.BytesIO()
    pq.write_table(images_table, buffer)
    objects.put(inner.fs, _images(inner), buffer.getvalue())
    check()  # an image that failed for want of credentials has not failed for good
    listed = Manifest(written.rows, 0, FIELDS.names, mark, written.known_bytes)
    manifest.save(listed, inner)
    return Regions(inner, listed, images_table)
