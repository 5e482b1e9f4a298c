"""GeoJSON (RFC 7946): a polygon in longitude and latitude for each box."""

from __future__ import annotations

import json

import numpy as np

from pipeline.labels.export.folder import Folder
from pipeline.labels.export.target import Item, Job, Shard

FEATURE = (
    '{"type":"Feature","geometry":{"type":"%s","coordinates":%s},"properties":{"label":%s,'
    '"score":%.6f,"category_id":%d,"image_uri":%s,"image_id":%d,"detection":%d,'
    '"pixel_xmin":%.2f,"pixel_ymin":%.2f,"pixel_xmax":%.2f,"pixel_ymax":%.2f}}'
)


class GeoJson(Shard):
    """Coordinates have eight decimals, which is a millimetre."""

    images = None
    on_a_map = True
    how = "geopandas: read_file('{to}/detections.geojson'); QGIS: add it as a vector layer"

    def __init__(self, folder: Folder, job: Job) -> None:
        self.ids = job.classes.ids
        self.labels = [json.dumps(name) for name in job.classes.names]
        self.file = folder.open("detections.geojson")
        self.file.write('{"type":"FeatureCollection","features":[')
        self.separator = "\n"

    def add(self, item: Item) -> None:
        image, uri = item.image, json.dumps(item.image.uri)
        rows = zip(item.polygons, image.classes, image.scores, image.xyxy, strict=True)
        for number, (rings, place, score, xyxy) in enumerate(rows):
            texts = [f"[{_text(ring)}]" for ring in rings]
            kind = "Polygon" if len(texts) == 1 else "MultiPolygon"
            coordinates = texts[0] if len(texts) == 1 else f"[{','.join(texts)}]"
            label, category = self.labels[place], self.ids[place]
            values = (label, score, category, uri, image.image_id, number, *xyxy)
            self.file.write(self.separator + FEATURE % (kind, coordinates, *values))
            self.separator = ",\n"

    def close(self) -> None:
        self.file.write("\n]}\n")


def _text(ring: np.ndarray) -> str:
    return f"[{','.join(f'[{x:.8f},{y:.8f}]' for x, y in ring.tolist())}]"
