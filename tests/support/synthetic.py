"""Outputs of any size without a run: what `jobs.detect` would have left, by its own writers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import Config
from pipeline.config import fingerprint
from pipeline.inputs import enumeration
from pipeline.outputs import schema
from pipeline.outputs.files import FileName, encode
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import PART_ROWS

NAMES = ("person", "bicycle", "car", "dog", "cup")
CATEGORIES = {1: "person", 2: "bicycle", 3: "car", 18: "dog", 47: "cup"}
DETECTOR = {
    "schema_version": schema.SCHEMA_VERSION,
    "model": "fasterrcnn_resnet50_fpn_v2",
    "model_id": "fasterrcnn_resnet50_fpn_v2/synthetic",
    "weights_sha256": "0" * 64,
    "trained": True,
    "options": {"num_classes": 91},
    "score_threshold": 0.05,
    "nms_iou": 0.5,
    "boxes": "xyxy, float pixels of the upright image (EXIF orientation applied)",
    "categories": {str(k): v for k, v in CATEGORIES.items()},
}
RUN_ID = "5" * 32


def write(
    output: Path,
    images: int,
    boxes: float = 12.0,
    rows_per_file: int = 4096,
    input: str = "s3://bucket/images",
    names: list[str] | None = None,
    seed: int = 0,
    frames: list[int | None] | None = None,
    uris: list[str] | None = None,
) -> Path:
    """A finished output of made-up rows, every hundredth of them an error.

    Args:
        output: folder to be made.
        images: number of images.
        boxes: mean number of detections of an image; every tenth image has none.
        rows_per_file: as of a run.
        input: as of a run.
        names: of the images below the input; default `000/00000000.jpg` and so on.
        seed: of the made-up numbers.
        frames: `frame_index` of each image, in a run that reads videos.
        uris: of the images, in the place of names.
    """
    random = np.random.default_rng(seed)
    uris = uris or [
        f"{input}/{names[i] if names else f'{i // 1000:03d}/{i:08d}.jpg'}" for i in range(images)
    ]
    counts: dict[str, Any] = {"images": images, "ok": 0, "errors": {}, "detections": 0}
    more = pa.schema([("frame_index", pa.int64())] if frames else [])
    written = schema.with_carried(more, DETECTOR)
    for first in range(0, images, rows_per_file):
        part = uris[first : first + rows_per_file]
        rows = _rows(random, first, part, boxes)
        failed = np.arange(first, first + len(part)) % 100 == 99
        for status, chosen in (("ok", ~failed), ("error", failed)):
            kept = rows.filter(pa.array(chosen))
            if not kept.num_rows:
                continue
            if frames:
                numbers = pa.array(frames[first : first + len(part)], pa.int64())
                kept = kept.append_column("frame_index", numbers.filter(pa.array(chosen)))
            if status == "error":
                kept = _as_errors(kept)
                counts["errors"]["truncated"] = counts["errors"].get("truncated", 0) + len(kept)
            else:
                counts["ok"] += len(kept)
                counts["detections"] += int(np.sum(kept["num_detections"].to_numpy()))
            path = output / "detections" / str(FileName.new(status, 0, 1, first))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(kept, written))
    _write_run(output, uris, counts, input)
    return output


def listed(config: Config) -> Path:
    """A finished output of made-up rows for the images of a run's input, and their manifest."""
    layout, output = Layout.of(config.output), Path(config.output)
    found = enumeration.write(config, layout, "").read_part(layout, 0)
    shutil.rmtree(output)
    write(output, len(found), input=config.input, uris=found["image_uri"].to_pylist())
    path = output / "_run/run.json"
    record = json.loads(path.read_text())
    record["identity"] |= {"bytes_column": config.bytes_column, "carry": list(config.carry or ())}
    path.write_text(json.dumps(record))
    enumeration.write(config, layout, fingerprint(record["identity"]))
    return output


def _rows(random: np.random.Generator, first: int, uris: list[str], boxes: float) -> pa.Table:
    n = len(uris)
    widths = random.choice([640, 480, 1000], n)
    heights = random.choice([480, 640, 750], n)
    found = np.minimum(random.poisson(boxes, n), 100)
    found[random.random(n) < 0.1] = 0
    owner = np.repeat(np.arange(n), found)
    scores = random.beta(0.6, 0.8, len(owner)).astype(np.float32) * 0.94 + 0.055
    order = np.lexsort((-scores, owner))
    low = random.random((len(owner), 2)) * 0.8
    high = low + random.random((len(owner), 2)) * (1 - low) * 0.9 + 0.02
    size = np.stack([widths, heights], 1)[owner]
    xyxy = (np.clip(np.concatenate([low, high], 1), 0, 1) * np.tile(size, 2)).astype(np.float32)
    labels = random.choice(list(CATEGORIES), len(owner), p=[0.5, 0.05, 0.3, 0.1, 0.05])
    values = pa.StructArray.from_arrays(
        [
            pa.array(labels, pa.int32()),
            pa.array([CATEGORIES[label] for label in labels.tolist()], pa.string()),
            pa.array(scores[order], pa.float32()),
            *(pa.array(xyxy[:, corner], pa.float32()) for corner in range(4)),
        ],
        fields=list(schema.DETECTION),
    )
    offsets = pa.array(np.concatenate([[0], np.cumsum(found)]), pa.int32())
    nulls = pa.nulls(n, pa.string())
    columns = [
        pa.array(np.arange(first, first + n)),
        uris,
        random.integers(50_000, 500_000, n),
        widths.astype(np.int32),
        heights.astype(np.int32),
        pa.ListArray.from_arrays(offsets, values),
        found.astype(np.int32),
        [DETECTOR["model_id"]] * n,
        [RUN_ID] * n,
        nulls,
        nulls,
        nulls,
        np.ones(n, np.int32),
    ]
    return pa.table(
        [pa.array(c) if isinstance(c, np.ndarray) else c for c in columns], schema=schema.ROW
    )


def _as_errors(rows: pa.Table) -> pa.Table:
    n = len(rows)
    replaced = {
        "width": pa.nulls(n, pa.int32()),
        "height": pa.nulls(n, pa.int32()),
        "detections": pa.nulls(n, schema.ROW.field("detections").type),
        "num_detections": pa.nulls(n, pa.int32()),
        "error_stage": pa.array(["decode"] * n),
        "error_code": pa.array(["truncated"] * n),
        "error_message": pa.array(["OSError: image file is truncated"] * n),
    }
    columns = [replaced.get(name, rows[name]) for name in schema.ROW.names]
    return pa.table(columns, schema=schema.ROW)


def _write_run(output: Path, uris: list[str], counts: dict[str, Any], input: str) -> None:
    run = output / "_run"
    (run / "manifest").mkdir(parents=True)
    listed = pa.schema(
        [pa.field("image_uri", pa.string(), nullable=False), ("size_bytes", pa.int64())]
    )
    for number, first in enumerate(range(0, len(uris), PART_ROWS)):
        part = uris[first : first + PART_ROWS]
        table = pa.table([part, pa.nulls(len(part), pa.int64())], schema=listed)
        path = run / "manifest" / f"part-{number:06d}.parquet"
        pq.write_table(table, path, compression="zstd")
    identity = {
        "input": input,
        "limit": None,
        "extensions": ["jpg"],
        "uri_column": None,
        "bytes_column": None,
        "carry": [],
        "model": {},
        "weights": "0" * 64,
        "categories": DETECTOR["categories"],
    }
    manifest = {
        "rows": len(uris),
        "duplicates": 0,
        "columns": [],
        "fingerprint": fingerprint(identity),
    }
    (run / "manifest.json").write_text(json.dumps(manifest))
    record = {
        "run_id": RUN_ID,
        "identity": identity,
        "config": {"input": input, "output": str(output), "max_error_rate": 0.05},
        "weights": {
            "model_id": DETECTOR["model_id"],
            "sha256": "0" * 64,
            "trained": True,
            "categories": DETECTOR["categories"],
        },
        "attempts": [
            {
                "started": "2026-11-01T20:00:00Z",
                "ended": "2026-11-01T21:00:00Z",
                "host": "host",
                "placement": {
                    "device": "cuda",
                    "replicas": 4,
                    "gpus": 1,
                    "cpus": 4,
                    "micro_batch": 8,
                },
                "versions": {"python": "3.11.7", "torch": "2.15.0", "torchvision": "0.29.2"},
                "images": len(uris),
                "bytes_read": 275_000 * len(uris),
                "seconds": {"wall": 3600.0, "fetch": 900.0, "forward": 13_000.0},
            }
        ],
        "retry_from": 0,
        "counts": {**counts, "duplicates": 0},
    }
    (run / "run.json").write_text(json.dumps(record, indent=2))
    (output / "_SUCCESS").write_bytes(b"")


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the rows of a file of detections; its metadata stays."""
    table = pq.ParquetFile(path).read()
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def replaced(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    """The table with other values in a column."""
    index = table.schema.get_field_index(name)
    field = table.schema.field(name)
    return table.set_column(index, field, pa.array(values, field.type))
