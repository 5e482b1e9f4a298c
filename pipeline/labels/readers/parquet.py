"""Parquet: the form of Hugging Face `datasets`, and what `jobs.review` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.labels.readers.collected import Collected
from pipeline.store import urls

BATCH_ROWS = 2048
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def schema_of(url: str) -> pa.Schema:
    fs, path = urls.filesystem(url)
    with fs.open(path, "rb") as file:
        return pq.ParquetFile(file).schema_arrow


def _batches(url: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    fs, path = urls.filesystem(url)
    with fs.open(path, "rb") as file:
        yield from pq.ParquetFile(file).iter_batches(BATCH_ROWS, columns=columns)


# ------------------------------------------------------------------------------- corrections


def read_corrections(url: str, found: Collected) -> None:
    """Every image that has a row was reviewed."""
    for batch in _batches(url, ["image_uri", "detections"]):
        lists = batch["detections"]
        values = lists.flatten()
        labels = values.field("label").to_pylist()
        ids = values.field("label_id").to_pylist()
        for label, category in dict(zip(labels, ids, strict=True)).items():
            found.declare(label, category)
        corners = zip(*(values.field(name).to_pylist() for name in CORNERS), strict=True)
        boxes = [(label, *xyxy) for label, xyxy in zip(labels, corners, strict=True)]
        start = 0
        lengths = lists.value_lengths().to_pylist()
        for uri, length in zip(batch["image_uri"].to_pylist(), lengths, strict=True):
            found.add(uri, boxes[start : start + length])
            start += length


# ------------------------------------------------------------------------------- Hugging Face


def read_huggingface(url: str, found: Collected) -> None:
    """Every row was reviewed: the form has no mark for it."""
    names = _class_names(schema_of(url))
    for batch in _batches(url, ["image.path", "objects.bbox", "objects.category"]):
        for row in batch.to_pylist():
            name = (row.get("image") or {}).get("path")
            if not name:
                raise UsageError(f"{url} has a row whose image has no path: nothing tells which")
            objects = row["objects"]
            boxes = [
                (_label(url, names, category), x, y, x + width, y + height)
                for (x, y, width, height), category in zip(
                    objects["bbox"], objects["category"], strict=True
                )
            ]
            found.add(name, boxes)


def _class_names(schema: pa.Schema) -> list[str]:
    """The names behind the numbers; none where classes are text."""
    content: Any = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    objects = content.get("info", {}).get("features", {}).get("objects", {})
    if isinstance(objects, list):
        objects = objects[0]
    category = objects.get("feature", objects).get("category", {})
    return list(category.get("feature", category).get("names", ()))


def _label(url: str, names: list[str], category: Any) -> str:
    if isinstance(category, str):
        return category
    if not (isinstance(category, int) and 0 <= category < len(names)):
        raise UsageError(f"{url} has the category {category!r}, which its features do not name")
    return names[category]
