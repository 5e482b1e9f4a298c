"""Boxes of regions to the one row of each large image, in the place of that of status `large`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.cluster.ledger import GIVEN_UP
from pipeline.driver.planner import ERROR, Row
from pipeline.driver.regions import Regions
from pipeline.errors import Failure
from pipeline.images import tiling
from pipeline.images.tiff_regions import Region
from pipeline.network.contract import Boxes
from pipeline.outputs.finished import Finished
from pipeline.outputs.layout import Layout
from pipeline.outputs.schema import FLOATS, RECOVERED_SHARE
from pipeline.stages.chain import Chain
from pipeline.stages.merging import merged
from pipeline.stages.regions import REGION
from pipeline.stages.rows import WINDOW_BOXES, detections_column
from pipeline.stages.write import by_status, write
from pipeline.store import objects

# bytes of rows that wait for a file, but for those of a single image
FILE_BYTES = 32 * 2**20
NUMBERS, CORNERS = ("label_id", *FLOATS), FLOATS[1:]


def read(layout: Layout, name: str, columns: list[str] | None = None) -> pa.Table:
    """A file of rows, given its path below `detections/`."""
    path = f"{layout.detections}/{name}"
    data = objects.retrying(lambda: layout.fs.cat_file(path))
    return pq.read_table(pa.BufferReader(data), columns=columns, partitioning=None)


class Assembly:
    """Makes the one row of each large image of what was found in its regions.

    It holds the boxes of one image at a time, beside rows that wait for their file.
    """

    def __init__(
        self, chain: Chain, categories: dict[int, str], found: Regions, files: Sequence[str]
    ) -> None:
        """
        Args:
            chain: of the run.
            categories: label id to name.
            found: the regions, all of which have their row.
            files: of these rows, paths below `detections/`.
        """
        self.chain = chain
        self.categories = categories
        self.found = found
        self.files = files
        self.images = {row["image_id"]: row for row in found.images.to_pylist()}
        # the file of each region
        self.file = np.zeros(found.manifest.rows, np.int32)
        for number in range(len(files)):
            ids = self._table(number, ["image_id"])["image_id"].to_numpy()
            self.file[ids] = number
        # regions of several images share a file
        self.rows = lru_cache(maxsize=2)(self._table)

    def _table(self, number: int, columns: list[str] | None = None) -> pa.Table:
        return read(self.found.layout, self.files[number], columns)

    def write(self, finished: Finished, check: Callable[[], None]) -> None:
        """Put rows that stay in the place of those of status `large`; `check` is for each image."""
        layout = finished.layout
        for name in finished.large_files():
            before = read(layout, str(name))
            rows: list[pa.Table] = []
            for place in range(before.num_rows):
                check()
                rows.append(self._row(before.slice(place, 1)))
                if place + 1 < before.num_rows and sum(r.nbytes for r in rows) < FILE_BYTES:
                    continue
                made = pa.concat_tables(rows)
                for status, table in by_status(made):
                    write(self.chain.destination, finished.index, status, table)
                finished.large[made["image_id"].to_numpy() - finished.first_id] = False
                rows = []
            # now, when all that is in it stands elsewhere
            objects.delete(layout.fs, f"{layout.detections}/{name}", finished.check)

    def _row(self, before: pa.Table) -> pa.Table:
        """The row of an image, given its row of status `large`."""
        image = self.images[before["image_id"][0].as_py()]
        found, attempts = self._outcome(image)
        error = found if isinstance(found, Failure) else None
        boxes = None if isinstance(found, Failure) else found
        values = {
            "width": [image["width"]],
            "height": [image["height"]],
            "detections": detections_column([boxes], self.categories),
            "num_detections": [len(boxes.labels) if boxes else None],
            **dict(zip(ERROR, ([value] for value in error or (None,) * 3), strict=True)),
            "attempts": [attempts or before["attempts"][0].as_py()],
        }
        if RECOVERED_SHARE.name in before.column_names:
            values[RECOVERED_SHARE.name] = [None if error else 1.0]
        for name, value in values.items():
            field = before.schema.field(name)
            column = (
                pa.chunked_array([value])
                if isinstance(value, pa.Array)
                else pa.array(value, field.type)
            )
            before = before.set_column(before.column_names.index(name), field, column)
        self._count(before["image_uri"][0].as_py(), found)
        status = "error" if error else "ok"
        return before.append_column("status", pa.array([status], pa.string()))

    def _count(self, uri: str, found: Boxes | Failure) -> None:
        client = self.chain.client
        if isinstance(found, Failure):
            client.failed(found.code, uri)
            client.add(images=1, errors=1)
        else:
            client.add(images=1, detections=len(found.labels))

    def _outcome(self, image: Row) -> tuple[Boxes | Failure, int]:
        """What was found in an image or why it failed, and the most reads of a region."""
        if image["error_code"]:
            return Failure(*(image[name] for name in ERROR)), 0
        first, last = image["first"], image["first"] + image["regions"]
        tables = []
        for number in np.unique(self.file[first:last]).tolist():
            table = self.rows(number)
            ids = table["image_id"].to_numpy()
            tables.append(table.filter(pa.array((first <= ids) & (ids < last))))
        rows = pa.concat_tables(tables).sort_by("image_id")
        attempts = pc.max(rows["attempts"]).as_py()
        failed = rows.filter(pc.is_valid(rows["error_code"]))
        if failed.num_rows:
            return _failure(failed), attempts
        return self._merged(rows, image), attempts

    def _merged(self, rows: pa.Table, image: Row) -> Boxes:
        size = image["width"], image["height"]
        regions = [Region(*region) for region in rows[REGION].to_pylist()]
        detections = pc.list_flatten(rows["detections"].combine_chunks())
        found = {name: np.asarray(detections.field(name)) for name in NUMBERS}
        xyxy = np.stack([found[name] for name in CORNERS], axis=1)
        counts = np.asarray(pc.list_flatten(rows[WINDOW_BOXES.name].combine_chunks()))
        ends = np.cumsum([0, *counts])
        whole, *parts = (
            Boxes(xyxy[part], found["label_id"][part].astype(np.int64), found["score"][part])
            for part in (slice(0, 0), *map(slice, ends[:-1], ends[1:]))
        )
        if regions[0].overview:
            whole = _scaled(parts.pop(0), regions.pop(0), size)
        places = np.concatenate([self._windows(region) for region in regions])
        # as the tiles of an image that is decoded as a whole are ordered
        order = np.lexsort((places[:, 0], places[:, 1])).tolist()
        views = np.concatenate(([[0, 0, *size]], places[order]))
        return merged([whole, *(parts[place] for place in order)], views)

    def _windows(self, region: Region) -> np.ndarray:
        """[N, 4] x0, y0, x1, y1 in pixels of the image, of the windows of a region."""
        x, y, width, height, _ = region
        config = self.chain.config
        assert config.tile
        return tiling.tiles(height, width, config.tile, config.tile_overlap) + [x, y, x, y]


def _scaled(found: Boxes, overview: Region, size: tuple[int, int]) -> Boxes:
    """Boxes in pixels of an overview, in those of its image, which has that width and height."""
    factor = np.array([size[0] / overview.width, size[1] / overview.height] * 2)
    return Boxes((found.xyxy * factor).astype(np.float32), found.labels, found.scores)


def _failure(failed: pa.Table) -> Failure:
    """Of an image, given the rows of its regions that failed."""
    given_up = pc.starts_with(failed["error_message"], GIVEN_UP)
    # the culprit, if it is among them
    row = failed.take(pc.sort_indices(given_up)[:1]).to_pylist()[0]
    x, y, width, height, overview = Region(*row[REGION])
    where = f"in the region of {width}x{height} pixels from ({x}, {y}) on"
    if overview:
        where = f"in its overview of {width}x{height} pixels"
    return Failure(row["error_stage"], row["error_code"], f"{where}: {row['error_message']}")
