"""The regions of a slice's large images: an output of their own, below the run's, while at work."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import fsspec.asyn
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cluster.client import Client
from pipeline.config import Config
from pipeline.errors import Code, Failure
from pipeline.images.depth import Samples
from pipeline.images.errors import DecodeError
from pipeline.images.tiff_overviews import Suits, chosen
from pipeline.images.tiff_plan import plan
from pipeline.images.tiff_regions import Region, StoredImage
from pipeline.inputs import enumeration
from pipeline.outputs import manifest
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import LISTED, Manifest
from pipeline.stages.download import Downloader
from pipeline.stages.regions import FIELDS, REGION, WHOLE_BYTES, WHOLE_SIZE, WHOLE_URI
from pipeline.stages.stored import StoredImages, Unread
from pipeline.store import objects
from pipeline.words import explain

# headers of images read at once, and images whose regions are in memory
PLANNERS, PLANNED = 8, 16
SCHEMA = pa.schema([*LISTED, *FIELDS])
ERROR = ("error_stage", "error_code", "error_message")
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
Row = dict[str, Any]
T = TypeVar("T")


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

    def holds(self, ids: np.ndarray) -> bool:
        """Whether these images are among its own."""
        return bool(np.isin(ids, self.images["image_id"].to_numpy()).all())


def _names(layout: Layout, index: int) -> list[str]:
    names = objects.names(layout.fs, layout.windows)
    return [name for name in names if name.startswith(f"{index:05d}-")]


def remove(layout: Layout, index: int) -> None:
    """Remove what there is of a slice's regions."""
    for name in _names(layout, index):
        _remove(layout, name)


def _remove(layout: Layout, name: str) -> None:
    inner = _inner(layout, name)
    # first, so that what is left of it is nobody's manifest
    objects.delete(inner.fs, inner.manifest)
    objects.delete_folder(inner.fs, inner.root)


def _inner(layout: Layout, name: str) -> Layout:
    return Layout.of(layout.url_of(f"{layout.windows}/{name}"))


def load(layout: Layout, index: int, mark: str, ids: np.ndarray) -> Regions | None:
    """The regions of images of a slice, if an earlier attempt has written all of their rows.

    Args:
        layout: of the run's output.
        index: number of the slice.
        mark: the run's fingerprint.
        ids: of the images. What holds not all of them is of other ones, and removed.
    """
    for name in _names(layout, index):
        inner = _inner(layout, name)
        if known := manifest.load(inner, mark):
            data = objects.get(inner.fs, _images(inner))
            found = Regions(inner, known, pq.read_table(pa.BufferReader(data)))
            if found.holds(ids):
                return found
        _remove(layout, name)
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
            rows = []
            for planned in planner.rows(some, first):
                check()
                rows.append(planned)
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


class Planner:
    """Reads headers of large images, for their regions."""

    def __init__(self, config: Config, client: Client, suits: Suits | None) -> None:
        """
        Args:
            config: the run's; its `tile` is not None.
            client: of the run's coordinator.
            suits: see `tiff_overviews.chosen`; None where overviews are not used.
        """
        self.config = config
        self.suits = suits
        self.stored = StoredImages(config, Downloader(config, client))
        self.threads = ThreadPoolExecutor(PLANNERS)

    def rows(self, images: list[Row], first: int) -> Iterator[tuple[Row, list[Row]]]:
        """The row of `IMAGES` of each, and the rows of its regions.

        Args:
            images: `image_id`, `image_uri` and `image_bytes` of each.
            first: id of the first one's first region.
        """
        for image, planned in zip(images, self.threads.map(self._planned, images), strict=True):
            row = {"image_id": image["image_id"], "first": first, "regions": 0}
            regions: list[Row] = []
            if isinstance(planned, Failure):
                row |= dict(zip(ERROR, planned, strict=True))
            else:
                width, height, regions = planned
                row |= {"width": width, "height": height, "regions": len(regions)}
            first += len(regions)
            yield row, regions

    def _planned(self, image: Row) -> tuple[int, int, list[Row]] | Failure:
        """Width, height and the rows of the regions, without the header, which may be large."""
        config = self.config
        assert config.tile
        samples = Samples(config.depth_range, config.bands)
        file = image["image_uri"], image["image_bytes"]
        try:
            stored = _waited(self.stored.header(*file))
            if not stored:
                raise DecodeError(Code.NOT_AN_IMAGE, "it is no TIFF any more")
            limits = (config.tile, config.tile_overlap, config.max_pixels)
            regions = plan(stored, *limits, samples)
            rows = [_row(image, stored, region) for region in regions]
            if suits := self.suits:
                wanted = (config.max_pixels, config.max_object_bytes, samples, suits)
                found = _waited(
                    self.stored.of_overviews(*file, stored, lambda some: chosen(some, *wanted))
                )
                if found:
                    region, overview = found
                    rows.insert(0, _row(image, overview, region))
            return stored.width, stored.height, rows
        except Unread as error:
            return Failure("fetch", str(error.outcome.code), str(error))
        except DecodeError as error:
            return Failure("decode", error.code, str(error))
        except Exception as error:  # of damaged tags; the outcome of its image
            return Failure("decode", Code.CORRUPT, explain(error))


def _waited(read: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(read, fsspec.asyn.get_loop()).result()


def _row(image: Row, stored: StoredImage, region: Region) -> Row:
    x, y, width, height, overview = region
    where = f"overview={width}x{height}" if overview else f"xywh={x},{y},{width},{height}"
    return {
        "image_uri": f"{image['image_uri']}#{where}",
        "size_bytes": sum(end - start for start, end in stored.parts(region)),
        WHOLE_URI: image["image_uri"],
        WHOLE_BYTES: image["image_bytes"],
        WHOLE_SIZE: [stored.width, stored.height],
        REGION: list(region),
    }
