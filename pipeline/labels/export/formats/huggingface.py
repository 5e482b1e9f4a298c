"""Parquet that Hugging Face `datasets` loads with its `Image` and `ClassLabel` features."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.labels.export.folder import Folder
from pipeline.labels.export.target import Item, Job, Shard

GROUP_ROWS = 1000
GROUP_BYTES = 64 * 2**20
FILE_BYTES = 512 * 2**20
SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("image_id", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        (
            "objects",
            pa.struct(
                [
                    ("bbox", pa.list_(pa.list_(pa.float32(), 4))),
                    ("category", pa.list_(pa.int64())),
                    ("score", pa.list_(pa.float32())),
                ]
            ),
        ),
    ]
)


class HuggingFace(Shard):
    """A row an image; `bbox` is left, top, width and height in pixels, not rounded.

    `image` holds the bytes if images are exported, and otherwise only the URI, which `datasets`
    opens when the row is read. A file is closed at half a gigabyte.
    """

    images = None
    how = "datasets: load_dataset('parquet', data_files='{to}/data/*.parquet', split='train')"

    def __init__(self, folder: Folder, job: Job) -> None:
        self.folder = folder
        self.prefix = job.options.image_prefix
        features = json.dumps({"info": {"features": _features(job.classes.names)}})
        self.schema = SCHEMA.with_metadata({"huggingface": features})
        self.items: list[Item] = []
        self.bytes = self.files = 0
        self._next_file()

    def _next_file(self) -> None:
        self.name = f"data/train-{self.files:05d}.parquet"
        self.writer = self.folder.parquet(self.name, self.schema)
        self.files += 1

    def add(self, item: Item) -> None:
        if self.folder.growing[self.name].tell() > FILE_BYTES:
            self.close()
            self.folder.finish(self.name)
            self._next_file()
        self.items.append(item)
        self.bytes += len(item.data or b"")
        if len(self.items) >= GROUP_ROWS or self.bytes >= GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        self.writer.write_table(self._table())
        self.items, self.bytes = [], 0

    def _table(self) -> pa.Table:
        images = [item.image for item in self.items]
        lengths = [len(image.scores) for image in images]
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        xywh = np.concatenate([image.xyxy for image in images])
        xywh[:, 2:] -= xywh[:, :2]
        classes = np.concatenate([image.classes for image in images])
        scores = np.concatenate([image.scores for image in images])
        bbox = pa.FixedSizeListArray.from_arrays(pa.array(xywh.ravel(), pa.float32()), 4)
        lists = [bbox, pa.array(classes, pa.int64()), pa.array(scores, pa.float32())]
        objects = pa.StructArray.from_arrays(
            [pa.ListArray.from_arrays(offsets, values) for values in lists],
            fields=list(SCHEMA.field("objects").type),
        )
        paths = [
            item.image.uri if self.prefix is None else self.prefix + item.name
            for item in self.items
        ]
        encoded = pa.array([item.data for item in self.items], pa.binary())
        columns = [
            pa.StructArray.from_arrays([encoded, pa.array(paths, pa.string())], ["bytes", "path"]),
            *(
                [getattr(image, name) for image in images]
                for name in ("image_id", "width", "height")
            ),
            objects,
        ]
        return pa.table(columns, schema=self.schema)

    def close(self) -> None:
        if self.items:
            self._write()
        self.writer.close()


def _features(names: list[str]) -> dict[str, Any]:
    """In the words that both old and new versions of `datasets` know."""

    def value(dtype: str) -> dict[str, Any]:
        return {"dtype": dtype, "_type": "Value"}

    def sequence(feature: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"feature": feature, "_type": "Sequence", **more}

    return {
        "image": {"_type": "Image"},
        "image_id": value("int64"),
        "width": value("int32"),
        "height": value("int32"),
        "objects": {
            "bbox": sequence(sequence(value("float32"), length=4)),
            "category": sequence({"names": names, "_type": "ClassLabel"}),
            "score": sequence(value("float32")),
        },
    }
