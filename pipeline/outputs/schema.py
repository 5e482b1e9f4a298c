"""The output row, version 1. docs/output.md has the meaning of each column."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

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
# of the pixels of an image, what was there; a column of runs that accept truncated images
RECOVERED_SHARE = pa.field("recovered_share", pa.float32())
STATUSES = ("ok", "error")
# of images that are read in windows, until their boxes are there; a finished output has none
LARGE = "large"


def with_carried(carried: pa.Schema, detector: dict[str, Any]) -> pa.Schema:
    """The schema of the output files: `ROW`, the carried columns, and the `detector` key."""
    return pa.schema([*ROW, *carried], metadata={"detector": json.dumps(detector)})
