"""Parquet: the form of Hugging Face `datasets`, and what `jobs.review` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.labels.readers.collected import Collected, LabelledBox, size_of
from pipeline.store import urls

BATCH_ROWS = 2048
# key of the metadata of corrections: JSON of the run's `PIXELS`
READ = b"read"
IMAGE = ("image_uri", "width", "height")
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
    if read := (schema_of(url).metadata or {}).get(READ):
        found.reads.append(json.loads(read))
    for batch in _batches(url, [*IMAGE, "detections", "table_version"]):
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
        columns = (_values(batch, name) for name in (*IMAGE, "table_version"))
        for uri, width, height, version, length in zip(*columns, lengths, strict=True):
            mine, origin = boxes[start : start + length], found.origins.of_uri(uri)
            found.add(uri, mine, origin, size_of(width, height))
            start += length
            if version:
                found.versions[uri] = version


def _values(batch: pa.RecordBatch, name: str) -> list[Any]:
    """Of a column, which files of an earlier version, or that people made, may not have."""
    return batch[name].to_pylist() if name in batch.schema.names else [None] * len(batch)


# ------------------------------------------------------------------------------- Hugging Face


def read_huggingface(url: str, found: Collected) -> None:
    """Every row was reviewed: the form has no mark for it. `objects` are lists, or a list of
    objects; null, there are none.

    Raises:
        UsageError: a row's image has no path, or objects have no box or no category.
    """
    schema = schema_of(url)
    names = _class_names(schema)
    sizes = [name for name in ("width", "height") if name in schema.names]
    for batch in _batches(url, ["image.path", "objects", *sizes]):
        for row in batch.to_pylist():
            name = (row.get("image") or {}).get("path")
            if not name:
                raise UsageError(
                    f"{url} has a row whose image has no path, so nothing tells which image it is"
                )
            boxes = list(_boxes(url, names, row["objects"]))
            size = size_of(row.get("width"), row.get("height"))
            found.add(name, boxes, found.origins.find(name), size)


def _boxes(url: str, names: list[str], objects: Any) -> Iterator[LabelledBox]:
    if isinstance(objects, list):
        keys = ("bbox", "category")
        objects = {key: [entry.get(key) for entry in objects] for key in keys}
    objects = objects or {"bbox": None, "category": None}
    if not {"bbox", "category"} <= set(objects):
        raise UsageError(f"{url} has `objects` without `bbox` and `category`; it has {[*objects]}")
    pairs = zip(objects["bbox"] or (), objects["category"] or (), strict=True)
    for (x, y, width, height), category in pairs:
        yield _label(url, names, category), x, y, x + width, y + height


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
