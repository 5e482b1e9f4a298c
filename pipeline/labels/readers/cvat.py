"""CVAT for images 1.1, or for video: one `annotations.xml`."""

from __future__ import annotations

from typing import IO
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
from pipeline.labels.readers.cvat_video import Tracks
from pipeline.store import urls

SHAPES = ("polygon", "polyline", "points", "mask", "ellipse", "cuboid", "skeleton")


def read(url: str, found: Collected) -> None:
    """Every image that is listed was reviewed, or every frame of a video's task: CVAT marks jobs as
    done, not images, and leaves out images that were deleted.

    Raises:
        UsageError: it is no XML, has a rotated box, or the video's frames are not known.
    """
    fs, path = urls.filesystem(url)
    try:
        with fs.open(path, "rb") as file:
            _read_images(url, file, found)
    except ElementTree.ParseError as error:
        raise UsageError(f"{urls.public(url)} is not XML: {error}") from error


def _read_images(url: str, file: IO[bytes], found: Collected) -> None:
    root: ElementTree.Element | None = None
    tracks = Tracks(url, found)
    images = 0
    for event, element in ElementTree.iterparse(file, ("start", "end")):
        if root is None:
            root = element
        if event == "start":
            continue
        if element.tag == "meta":
            tracks.meta(element)
        elif element.tag == "track":
            _leave_out_others(element, found)
            tracks.add(element)
            root.clear()
        if element.tag != "image":
            continue
        images += 1
        name = element.get("name", "")
        _leave_out_others(element, found)
        size = size_of(element.get("width"), element.get("height"))
        boxes = [_box(name, box) for box in element.iter("box")]
        found.add(name, boxes, found.origins.find(name), size)
        root.clear()  # images that are done take no memory
    if tracks.is_video and not images:
        tracks.finish()


def _leave_out_others(element: ElementTree.Element, found: Collected) -> None:
    if others := sum(len(element.findall(shape)) for shape in SHAPES):
        found.left_out[NO_RECTANGLE] += others


def _box(name: str, box: ElementTree.Element) -> LabelledBox:
    if float(box.get("rotation", 0)) % 360:
        raise rotated(name)
    left, top, right, bottom = corners_of(name, map(box.get, ("xtl", "ytl", "xbr", "ybr")))
    return box.get("label", ""), left, top, right, bottom
