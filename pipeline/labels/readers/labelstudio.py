"""Label Studio: what it exports as JSON and as JSON-MIN."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from pipeline.labels import instances
from pipeline.labels.readers.collected import (
    NO_RECTANGLE,
    WITHOUT_LABEL,
    Collected,
    LabelledBox,
    alike,
    rotated,
    size_of,
    sizeless,
)
from pipeline.labels.readers.origins import Origin, plain

log = logging.getLogger(__name__)
RECTANGLES = ("rectanglelabels", "labels")
SIDES = {"x", "y", "width", "height"}
SHAPES = {
    "polygonlabels",
    "brushlabels",
    "bitmasklabels",
    "ellipselabels",
    "keypointlabels",
    "vectorlabels",
}


def read(url: str, found: Collected) -> None:
    """Tasks with an annotation were reviewed; those that were skipped, or have predictions alone,
    were not. Of several annotations the one marked as ground truth counts, or else the latest.
    """
    several = 0
    for task in instances.items(url, ""):
        marks = [a for a in task.get("annotations") or () if isinstance(a, dict)]
        usable = [a for a in marks if not a.get("was_cancelled")]
        if not usable:
            found.unreviewed["skipped" if marks else "without an annotation"] += 1
            continue
        several += len(usable) > 1
        chosen = max(usable, key=_rank)
        data = task.get("data")
        _add(found, data if isinstance(data, dict) else {}, chosen.get("result") or [])
    _tell(several)


def read_min(url: str, found: Collected) -> None:
    """Likewise; this form holds annotations alone, one after the other, and no skipped ones."""
    several = 0
    rows = instances.items(url, "")
    for _, group in groupby(rows, key=lambda row: row.get("id")):
        annotations = list(group)
        several += len(annotations) > 1
        row = max(annotations, key=_rank)
        _add(found, row, [_as_region(region) for region in _regions(row)])
    _tell(several)


def _rank(annotation: dict[str, Any]) -> tuple[bool, str]:
    date = annotation.get("updated_at") or annotation.get("created_at") or ""
    return bool(annotation.get("ground_truth")), str(date)


def _tell(several: int) -> None:
    if several:
        log.warning("%s tasks have several annotations; the latest of each counts", f"{several:,}")


def _regions(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The regions of all controls, whatever these are called."""
    for value in row.values():
        for region in value if isinstance(value, list) else ():
            if isinstance(region, dict) and {*RECTANGLES, *SHAPES} & set(region):
                yield region


def _as_region(value: dict[str, Any]) -> dict[str, Any]:
    kind = next(key for key in (*RECTANGLES, *sorted(SHAPES)) if key in value)
    return {"type": kind, "value": value, **value}


def _add(found: Collected, data: dict[str, Any], regions: list[dict[str, Any]]) -> None:
    uri = data.get("image_uri")
    name = str(uri or _image_name(data))
    # in a project of several exports, other images may be called the same
    origin = found.origins.of_uri(name) if uri else found.origins.find(name)
    # a region may stand there once as a rectangle and once with its labels
    marked = {r.get("id") for r in regions if r.get("type") == "labels"}
    size = _size(data, origin, regions)
    drawn = (r for r in regions if r.get("type") != "rectangle" or r.get("id") not in marked)
    boxes = [box for region in drawn if (box := _box(found, name, size, region))]
    found.add(name, boxes, origin, size)


def _image_name(data: dict[str, Any]) -> str:
    """The image of a task that does not hold its URI."""
    value = data.get("image")
    if not isinstance(value, str):
        texts = (v for v in data.values() if isinstance(v, str) and "/" in v)
        value = next(texts, "")
    return plain(value)


def _size(
    data: dict[str, Any], origin: Origin | None, regions: list[dict[str, Any]]
) -> tuple[int, int]:
    """That of the run, unless regions were drawn on a picture of another shape; 0 if unknown."""
    drawn_on = (size_of(r.get("original_width"), r.get("original_height")) for r in regions)
    drawn = next((size for size in drawn_on if size[0]), (0, 0))
    known = (origin and origin.size) or size_of(data.get("width"), data.get("height"))
    return known if known[0] and (not drawn[0] or alike(known, drawn)) else drawn


def _box(
    found: Collected, name: str, size: tuple[int, int], region: dict[str, Any]
) -> LabelledBox | None:
    """The box of a region; None if it is another mark, such as a choice, or of no use."""
    kind, value = region.get("type"), region.get("value")
    if kind in SHAPES:
        found.left_out[NO_RECTANGLE] += 1
    if kind not in (*RECTANGLES, "rectangle") or not isinstance(value, dict):
        return None
    if not set(value) >= SIDES:
        found.left_out[NO_RECTANGLE] += 1
        return None
    if float(value.get("rotation") or 0) % 360 or float(region.get("image_rotation") or 0) % 360:
        raise rotated(name)
    labels: list[Any] = next((value[key] for key in RECTANGLES if value.get(key)), [])
    if len(labels) != 1:
        found.left_out[WITHOUT_LABEL] += 1
        return None
    if not size[0]:
        raise sizeless(name)
    width, height = size
    x, y = float(value["x"]) * width / 100, float(value["y"]) * height / 100
    right = x + float(value["width"]) * width / 100
    return str(labels[0]), x, y, right, y + float(value["height"]) * height / 100
