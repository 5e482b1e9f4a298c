"""CVAT for images 1.1: one `annotations.xml`."""

from __future__ import annotations

from typing import IO
from xml.etree import ElementTree

from pipeline.errors import UsageError
from pipeline.labels.readers.collected import NO_RECTANGLE, Collected, LabelledBox, rotated
from pipeline.store import urls

SHAPES = ("polygon", "polyline", "points", "mask", "ellipse", "cuboid", "skeleton")


def read(url: str, found: Collected) -> None:
    """Every image that is listed was reviewed: CVAT marks jobs as done, not images, and leaves out
    the frames that were deleted.

    Raises:
        UsageError: it is no XML, is of a video, or has a rotated box.
    """
    fs, path = urls.filesystem(url)
    try:
        with fs.open(path, "rb") as file:
            _read_images(url, file, found)
    except ElementTree.ParseError as error:
        raise UsageError(f"{urls.public(url)} is no XML: {error}") from error


def _read_images(url: str, file: IO[bytes], found: Collected) -> None:
    root: ElementTree.Element | None = None
    for event, element in ElementTree.iterparse(file, ("start", "end")):
        if root is None:
            root = element
        if event == "start":
            continue
        if element.tag == "track":
            raise UsageError(f"{url} is CVAT for video; export the job as CVAT for images 1.1")
        if element.tag != "image":
            continue
        name = element.get("name", "")
        if others := sum(len(element.findall(shape)) for shape in SHAPES):
            found.left_out[NO_RECTANGLE] += others
        found.add(name, [_box(name, box) for box in element.iter("box")])
        root.clear()  # images that are done take no memory


def _box(name: str, box: ElementTree.Element) -> LabelledBox:
    if float(box.get("rotation", 0)) % 360:
        raise rotated(name)
    left, top, right, bottom = (float(box.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
    return box.get("label", ""), left, top, right, bottom
