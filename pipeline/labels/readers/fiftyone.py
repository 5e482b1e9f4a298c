"""FiftyOne: its `FiftyOneImageDetectionDataset`."""

from __future__ import annotations

import posixpath
from typing import Any

from pipeline.labels import instances
from pipeline.labels.readers.collected import WITHOUT_LABEL, Collected, LabelledBox, sizeless
from pipeline.labels.readers.files import Pictures
from pipeline.store import objects, urls


def read(url: str, found: Collected) -> None:
    """Every sample with detections, be they none, was reviewed; one with null was not.

    Raises:
        UsageError: the size of an image is not known.
    """
    fs, path = urls.filesystem(url)
    folder = posixpath.dirname(path)
    places = objects.get_json(fs, f"{folder}/data.json") or {}
    # FiftyOne cuts off the ending of a key, whatever it is
    by_stem = {posixpath.splitext(key)[0]: place for key, place in places.items()}
    pictures = Pictures(fs, f"{folder}/data")
    for stem, detections in instances.pairs(url, "labels"):
        if detections is None:
            found.unreviewed["without detections in FiftyOne (null)"] += 1
            continue
        ending = posixpath.splitext(pictures.by_stem.get(stem, ""))[1] if not by_stem else ""
        name = by_stem.get(stem, stem + ending)
        origin = found.origins.find(name) or found.origins.find_stem(stem)
        size = (origin and origin.size) or (pictures.size(stem) if detections else (0, 0))
        if size is None:
            raise sizeless(name)
        boxes = (_box(found, size, entry) for entry in detections)
        found.add(name, [box for box in boxes if box], origin, size)


def _box(found: Collected, size: tuple[int, int], entry: dict[str, Any]) -> LabelledBox | None:
    label = entry.get("label")
    if not isinstance(label, str):
        found.left_out[WITHOUT_LABEL] += 1
        return None
    x, y, width, height = map(float, entry["bounding_box"])
    left, top = x * size[0], y * size[1]
    return label, left, top, left + width * size[0], top + height * size[1]
