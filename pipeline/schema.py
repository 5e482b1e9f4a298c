"""The output row, version 1. See the README for the meaning of each column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.contract import Boxes

SCHEMA_VERSION = 1

# Boxes: xyxy in float pixels of the upright image, x to the right, y down, the origin at the
# outer corner of the top left pixel; sorted by score, highest first.
DETECTION = pa.struct(
    [
        pa.field("label_id", pa.int32(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("xmin", pa.float32(), nullable=False),
        pa.field("ymin", pa.float32(), nullable=False),
        pa.field("xmax", pa.float32(), nullable=False),
        pa.field("ymax", pa.float32(), nullable=False),
    ]
)
FLOATS = ("score", "xmin", "ymin", "xmax", "ymax")

# `detections` is [] where nothing was found and NULL where the network did not run.
# `status` is the partition: it stands in the path of a file, not in the file.
ROW = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("image_uri", pa.string(), nullable=False),
        pa.field("image_bytes", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("detections", pa.list_(DETECTION)),
        pa.field("num_detections", pa.int32()),
        pa.field("model_id", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("error_stage", pa.string()),
        pa.field("error_code", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("attempts", pa.int32()),
    ]
)
STATUSES = ("ok", "error")


def with_carried(carried: pa.Schema, detector: dict[str, Any]) -> pa.Schema:
    """The schema of the output files: `ROW`, the carried columns, and the `detector` key."""
    return pa.schema([*ROW, *carried], metadata={"detector": json.dumps(detector)})


def detections(found: Sequence[Boxes | None], categories: dict[int, str]) -> pa.Array:
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
