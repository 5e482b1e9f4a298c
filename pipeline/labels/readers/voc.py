"""Pascal VOC: an XML file an image."""

from __future__ import annotations

import posixpath
from xml.etree import ElementTree

from pipeline.errors import UsageError
from pipeline.labels.readers.collected import Collected, LabelledBox, rotated
from pipeline.labels.readers.files import contents
from pipeline.store import urls

FOLDERS = ("Annotations", "labels")


def read(url: str, found: Collected) -> None:
    """Every image that has a file was reviewed. Corners are taken as they stand, as CVAT and the
    export write them. Other XML, as GDAL's beside images, is passed over.
    """
    fs, root = urls.filesystem(url)
    root = root.rstrip("/")
    folder = next((f for name in FOLDERS if fs.isdir(f := f"{root}/{name}")), root)
    paths = (path for path in sorted(fs.find(folder)) if path.endswith(".xml"))
    for path, data in contents(fs, paths):
        try:
            tree = ElementTree.fromstring(data)
        except ElementTree.ParseError as error:
            raise UsageError(f"{urls.url_of(fs, path)} is no XML: {error}") from error
        if tree.tag != "annotation":
            continue
        stem = posixpath.splitext(path.partition(f"{folder.lstrip('/')}/")[2])[0]
        name = tree.findtext("filename") or stem
        origin = found.origins.find_stem(stem) or found.origins.find(name)
        found.add(name, [_box(name, entry) for entry in tree.iter("object")], origin)


def _box(name: str, entry: ElementTree.Element) -> LabelledBox:
    for attribute in entry.iterfind("attributes/attribute"):
        if attribute.findtext("name") == "rotation" and float(attribute.findtext("value") or 0):
            raise rotated(name)
    left, top, right, bottom = (
        float(entry.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax")
    )
    return entry.findtext("name", ""), left, top, right, bottom
