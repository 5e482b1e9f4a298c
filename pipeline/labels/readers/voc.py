"""Pascal VOC: an XML file an image."""

from __future__ import annotations

import posixpath
from xml.etree import ElementTree

from pipeline.errors import UsageError
from pipeline.labels.readers.collected import (
    NO_RECTANGLE,
    Collected,
    LabelledBox,
    corners_of,
    rotated,
    size_of,
)
from pipeline.labels.readers.files import below, contents
from pipeline.store import urls

FOLDERS = ("Annotations", "labels")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read(url: str, found: Collected) -> None:
    """Every image that has a file was reviewed. Corners are taken as they stand, as CVAT and the
    export write them. Other XML, as GDAL's beside images, is passed over.
    """
    fs, root = urls.filesystem(url)
    root = root.rstrip("/")
    folder = next((f for name in FOLDERS if fs.isdir(f := f"{root}/{name}")), root)
    paths = (path for path in below(fs, folder) if path.lower().endswith(".xml"))
    for path, data in contents(fs, paths):
        try:
            tree = ElementTree.fromstring(data)
        except (ElementTree.ParseError, LookupError, ValueError) as error:
            raise UsageError(f"{urls.url_of(fs, path)} is not XML: {error}") from error
        if tree.tag != "annotation":
            continue
        stem = posixpath.splitext(path.partition(f"{folder.lstrip('/')}/")[2])[0]
        name = tree.findtext("filename") or stem
        origin = found.origins.find_stem(stem) or found.origins.find(name)
        size = size_of(*(tree.findtext(f"size/{side}") for side in ("width", "height")))
        boxes = (_box(found, name, entry) for entry in tree.iter("object"))
        found.add(name, [box for box in boxes if box], origin, size)


def _box(found: Collected, name: str, entry: ElementTree.Element) -> LabelledBox | None:
    for attribute in entry.iterfind("attributes/attribute"):
        if attribute.findtext("name") == "rotation" and float(attribute.findtext("value") or 0):
            raise rotated(name)
    if entry.find("robndbox") is not None:  # of roLabelImg
        raise rotated(name)
    if entry.find("bndbox") is None:
        found.left_out[NO_RECTANGLE] += 1
        return None
    texts = (entry.findtext(f"bndbox/{key}") for key in CORNERS)
    left, top, right, bottom = corners_of(name, texts)
    return entry.findtext("name", ""), left, top, right, bottom
