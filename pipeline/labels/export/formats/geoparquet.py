"""GeoParquet 1.1: a row for each box, with its polygon in longitude and latitude."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.labels.export.folder import Folder
from pipeline.labels.export.projection import Polygons
from pipeline.labels.export.target import Item, Job, Shard

GROUP_ROWS = 8192
CORNERS = ("xmin", "ymin", "xmax", "ymax")
SCHEMA = pa.schema(
    [
        ("geometry", pa.binary()),
        ("bbox", pa.struct([(name, pa.float64()) for name in CORNERS])),
        ("label", pa.string()),
        ("score", pa.float32()),
        ("category_id", pa.int64()),
        ("image_uri", pa.string()),
        ("image_id", pa.int64()),
        ("detection", pa.int32()),
        *((f"pixel_{name}", pa.float32()) for name in CORNERS),
    ]
)
POLYGON, MULTIPOLYGON = 3, 6  # in well-known binary


class GeoParquet(Shard):
    """Geometries are well-known binary in OGC:CRS84; `bbox` is what readers skip row groups by."""

    images = None
    on_a_map = True
    how = (
        "geopandas: read_parquet('{to}/detections.parquet'); DuckDB: FROM '{to}/detections.parquet'"
    )

    def __init__(self, folder: Folder, job: Job) -> None:
        self.classes = job.classes
        self.writer = folder.parquet("detections.parquet", SCHEMA)
        self.rows: list[dict[str, Any]] = []
        self.kinds: set[str] = set()
        self.extent = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def add(self, item: Item) -> None:
        image = item.image
        rows = zip(item.polygons, image.classes, image.scores, image.xyxy.tolist(), strict=True)
        for number, (rings, place, score, xyxy) in enumerate(rows):
            self.rows.append(
                {
                    "geometry": _binary(rings),
                    "bbox": self._bounds(rings),
                    "label": self.classes.names[place],
                    "score": score,
                    "category_id": self.classes.ids[place],
                    "image_uri": image.uri,
                    "image_id": image.image_id,
                    "detection": number,
                    **{f"pixel_{name}": v for name, v in zip(CORNERS, xyxy, strict=True)},
                }
            )
            self.kinds.add("Polygon" if len(rings) == 1 else "MultiPolygon")
        if len(self.rows) >= GROUP_ROWS:
            self._write()

    def _bounds(self, rings: Polygons) -> dict[str, float]:
        points = np.vstack(rings)
        low, high = points.min(0), points.max(0)
        self.extent[:2] = np.minimum(self.extent[:2], low)
        self.extent[2:] = np.maximum(self.extent[2:], high)
        return dict(zip(CORNERS, (*low.tolist(), *high.tolist()), strict=True))

    def _write(self) -> None:
        self.writer.write_table(pa.Table.from_pylist(self.rows, SCHEMA))
        self.rows = []

    def close(self) -> None:
        if self.rows:
            self._write()
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": sorted(self.kinds),
            "orientation": "counterclockwise",
            "covering": {"bbox": {name: ["bbox", name] for name in CORNERS}},
        }
        if self.kinds:
            column["bbox"] = self.extent.tolist()
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        self.writer.add_key_value_metadata({"geo": json.dumps(geo)})
        self.writer.close()


def _binary(rings: Polygons) -> bytes:
    """Well-known binary, low bytes first (OGC 06-103r4, section 8): one polygon, or several."""
    polygons = [
        struct.pack(f"<BIII{ring.size}d", 1, POLYGON, 1, len(ring), *ring.ravel()) for ring in rings
    ]
    if len(polygons) == 1:
        return polygons[0]
    return struct.pack("<BII", 1, MULTIPOLYGON, len(polygons)) + b"".join(polygons)
