"""The boxes of a finished output as Arrow tables, a row for each."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UsageError, nearest_class
from pipeline.locations import checked_url
from pipeline.outputs import files
from pipeline.outputs.layout import Layout
from pipeline.outputs.schema import DETECTION
from pipeline.outputs.status import finished_record

IMAGE = pa.schema(
    [
        pa.field("image_id", pa.int64()),
        pa.field("image_uri", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
    ]
)
BOX = pa.schema([*IMAGE, *DETECTION])


def read_boxes(
    output: str, *, score_threshold: float = 0.0, categories: Collection[str] | None = None
) -> pa.Table:
    """All boxes of a finished run, by image and the highest score first.

    `.to_pandas()` makes a DataFrame of it, `polars.from_arrow(...)` one of Polars'.

    Args:
        output: the run's, as a path or any fsspec URL.
        score_threshold: only boxes of at least this score.
        categories: only boxes of these, by name, or of one; by default of all.

    Returns:
        `image_id` int64, `image_uri` string, `width` and `height` int32 (pixels of the upright
        image), `label_id` int32, `label` string, `score`, `xmin`, `ymin`, `xmax`, `ymax` float32
        (pixels, x to the right, y down). Images without a box have no row.

    Raises:
        UsageError: there is no finished run, or none of its categories has that name.
        RunError: a file of it is damaged, or they hold other images than the run has counted.
    """
    tables = stream_boxes(output, score_threshold=score_threshold, categories=categories)
    order = [("image_id", "ascending"), ("score", "descending")]
    return pa.concat_tables([BOX.empty_table(), *tables]).sort_by(order)


def stream_boxes(
    output: str, *, score_threshold: float = 0.0, categories: Collection[str] | None = None
) -> Iterator[pa.Table]:
    """The same as `read_boxes`, a file of the output at a time, for outputs larger than memory.

    The images are in the files' order, which is roughly that of their ids.
    """
    layout = Layout.of(checked_url("output", output).rstrip("/"))
    record = finished_record(layout)
    known = set(record["weights"]["categories"].values())
    categories = [categories] if isinstance(categories, str) else categories
    for name in categories or ():
        if name not in known:
            raise UsageError(f"{layout.url} has no category {nearest_class(name, known)}")
    return _tables(layout, record["counts"]["ok"], score_threshold, categories)


def _tables(
    layout: Layout, images: int, score_threshold: float, categories: Collection[str] | None
) -> Iterator[pa.Table]:
    seen = 0
    for name in sorted(files.listed(layout, ("ok",)), key=lambda name: name.first_id):
        rows = files.read(layout, name, [*IMAGE.names, "detections"])
        seen += rows.num_rows
        boxes = _flat(rows)
        keep = pc.greater_equal(boxes["score"], pa.scalar(score_threshold, pa.float32()))
        if categories is not None:
            wanted = pa.array(sorted(categories), pa.string())
            keep = pc.and_(keep, pc.is_in(boxes["label"], wanted))
        yield boxes.filter(keep)
    files.check_count(layout, seen, images, "images without errors")


def _flat(rows: pa.Table) -> pa.Table:
    lists = rows["detections"].combine_chunks()
    owners = pc.list_parent_indices(lists)
    columns = [rows[name].take(owners) for name in IMAGE.names]
    return pa.table([*columns, *pc.list_flatten(lists).flatten()], schema=BOX)
