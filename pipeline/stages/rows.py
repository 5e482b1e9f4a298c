"""The output's rows, made of what became of each image: the one place where that is done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import Failure
from pipeline.network.contract import Boxes
from pipeline.outputs.schema import DETECTION, LARGE, RECOVERED_SHARE, ROW
from pipeline.stages.micro_batches import Outcome

# of a region's row: how many of its boxes, which are in pixels of their windows, are each window's
WINDOW_BOXES = pa.field("window_boxes", pa.list_(pa.int32()))


def finished_rows(
    rows: pa.Table,
    outcomes: Sequence[Outcome],
    categories: dict[int, str],
    model_id: str,
    run_id: str,
) -> pa.Table:
    """One row for each image that is done, in the same order.

    Args:
        rows: what `Fetch` yields.
        outcomes: of each row; those of images that were not begun are left out.
        categories: label id to name.
        model_id, run_id: for the columns of these names.

    Returns:
        The columns of `schema.ROW`, `status` and the carried columns.
    """
    rows = _without_encoded(rows).filter(pa.array([outcome.done for outcome in outcomes]))
    outcomes = [outcome for outcome in outcomes if outcome.done]
    errors = [outcome.error or (None, None, None) for outcome in outcomes]
    sizes = [outcome.size or (None, None) for outcome in outcomes]
    found = [outcome.boxes for outcome in outcomes]
    columns = {
        "image_id": rows["image_id"],
        "image_uri": rows["image_uri"],
        "image_bytes": rows["image_bytes"],
        "width": [width for width, _ in sizes],
        "height": [height for _, height in sizes],
        "detections": detections_column(found, categories),
        "num_detections": [None if boxes is None else len(boxes.labels) for boxes in found],
        "model_id": [model_id] * rows.num_rows,
        "run_id": [run_id] * rows.num_rows,
        "error_stage": [stage for stage, _, _ in errors],
        "error_code": [code for _, code, _ in errors],
        "error_message": [message for _, _, message in errors],
        "attempts": rows["attempts"],
    }
    table = pa.table([columns[name] for name in ROW.names], schema=ROW)
    status = pa.array([_status(outcome.error) for outcome in outcomes], pa.string())
    table = table.append_column("status", status)
    for field in rows.schema:
        if field.name not in {*ROW.names, "size_bytes"}:
            table = table.append_column(field, rows[field.name])
    return table


def _status(error: Failure | None) -> str:
    if not error:
        return "ok"
    return LARGE if error.code == LARGE else "error"


def with_windows(finished: pa.Table, outcomes: Sequence[Outcome]) -> pa.Table:
    """What `finished_rows` made of the same outcomes of regions, and the column `WINDOW_BOXES`."""
    counts = [o.window_boxes for o in outcomes if o.done]
    return finished.append_column(WINDOW_BOXES, pa.array(counts, WINDOW_BOXES.type))


def with_shares(finished: pa.Table, outcomes: Sequence[Outcome]) -> pa.Table:
    """What `finished_rows` made of the same outcomes, and the column `RECOVERED_SHARE`."""
    shares = [None if o.error else o.recovered_share for o in outcomes if o.done]
    return finished.append_column(RECOVERED_SHARE, pa.array(shares, RECOVERED_SHARE.type))


def _without_encoded(rows: pa.Table) -> pa.Table:
    """The rows with `image_bytes` in place of the encoded images, which are not to be copied."""
    read = pc.binary_length(rows["encoded"])
    sizes = pc.coalesce(read.cast(pa.int64()), rows["size_bytes"])
    return rows.drop_columns(["encoded"]).append_column("image_bytes", sizes)


def detections_column(found: Sequence[Boxes | None], categories: dict[int, str]) -> pa.Array:
    """The `detections` column: a list of structs an image, NULL where the network did not run."""
    lengths = [0 if boxes is None else len(boxes.labels) for boxes in found]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    ran = [boxes for boxes in found if boxes is not None]
    labels = np.concatenate([boxes.labels for boxes in ran] or [np.empty(0, np.int64)])
    xyxy = np.concatenate([boxes.xyxy for boxes in ran] or [np.empty((0, 4), np.float32)])
    scores = np.concatenate([boxes.scores for boxes in ran] or [np.empty(0, np.float32)])
    values = pa.StructArray.from_arrays(
        [
            pa.array(labels, pa.int32()),
            pa.array([categories.get(label) for label in labels.tolist()], pa.string()),
            pa.array(scores, pa.float32()),
            *(pa.array(xyxy[:, corner], pa.float32()) for corner in range(4)),
        ],
        fields=list(DETECTION),
    )
    nulls = pa.array([boxes is None for boxes in found])
    return pa.ListArray.from_arrays(offsets, values, mask=nulls)
