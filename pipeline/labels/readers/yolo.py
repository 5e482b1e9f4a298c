"""YOLO: a text file an image, and the names of the classes."""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple

import yaml
from fsspec import AbstractFileSystem

from pipeline.errors import UsageError
from pipeline.labels.readers.collected import (
    NO_RECTANGLE,
    Collected,
    LabelledBox,
    alike,
    sizeless,
)
from pipeline.labels.readers.files import Pictures, below, contents
from pipeline.labels.readers.origins import ROBOFLOW, Origin
from pipeline.store import objects, urls

# of Ultralytics, Label Studio and CVAT's YOLO 1.1
CLASS_FILES = ("data.yaml", "dataset.yaml", "classes.txt", "obj.names")
# `labels` above or below the split, as Ultralytics and Roboflow have it; of CVAT's YOLO 1.1
LABELS, SUBSET = "labels", re.compile(r"obj_\w+_data")
SPLIT = re.compile("^(train|val|valid|validation|test)/", re.IGNORECASE)
NUMBERS = re.compile(r"[\d\s.eE+-]*")


class _Text(NamedTuple):
    """
    Attributes:
        stem: name of its image, without ending.
        names: what the image may be called in an export, likewise.
        picture: place of the image below the root, likewise.
        sure: whether it lies where labels do.
    """

    stem: str
    names: tuple[str, ...]
    picture: str
    sure: bool


def read(url: str, found: Collected) -> None:
    """Every image that has a file was reviewed, with an empty one as background.

    Raises:
        UsageError: classes or sizes are not known, or no text is an image's.
    """
    fs, root = urls.filesystem(url)
    root = root.rstrip("/")
    names = _class_names(fs, root, url)
    pictures = Pictures(fs, root)
    paths = _texts(fs, root)
    any_labels = False
    for path, data in contents(fs, paths):
        place, text = _text(root, path), data.decode("utf-8-sig", "replace")
        origin = found.origins.find_stem(*place.names)
        picture = pictures.by_stem.get(place.picture) if not origin else None
        if not (place.sure or origin or picture or NUMBERS.fullmatch(text)):
            continue  # a list of names, or prose
        any_labels = True
        name = origin.uri if origin else place.stem + posixpath.splitext(picture or path)[1]
        lines = [line.split() for line in text.splitlines() if line.strip()]
        size = _size(origin, pictures, place) if lines else (0, 0)
        if size is None:
            raise sizeless(name)
        where = urls.url_of(fs, path)
        boxes = (_box(found, names, size, words, where) for words in lines)
        origin = origin or found.origins.find(name)
        found.add(name, [box for box in boxes if box], origin, size)
    if paths and not any_labels:
        raise UsageError(
            f"{urls.public(url)} has .txt files, but none belongs to an image or has boxes"
        )


def _texts(fs: AbstractFileSystem, root: str) -> list[str]:
    """Those where labels lie, or else all."""
    found = [path for path in below(fs, root) if path.lower().endswith(".txt")]
    found = [path for path in found if posixpath.basename(path) not in CLASS_FILES]
    return [path for path in found if _text(root, path).sure] or found


def _text(root: str, path: str) -> _Text:
    whole = posixpath.splitext(path.partition(f"{root.lstrip('/')}/")[2])[0]
    *folders, base = whole.split("/")
    if LABELS in folders:
        place = folders.index(LABELS)
        before, after = folders[:place], [*folders[place + 1 :], base]
        stem, picture = "/".join([*before, *after]), "/".join([*before, "images", *after])
        return _Text(stem, (SPLIT.sub("", stem), stem, whole), picture, True)
    if folders and SUBSET.fullmatch(folders[0]):
        stem = "/".join([*folders[1:], base])
        return _Text(stem, (stem,), whole, True)
    return _Text(whole, (whole,), whole, False)


def _size(origin: Origin | None, pictures: Pictures, text: _Text) -> tuple[int, int] | None:
    """Of which the boxes are fractions; Roboflow's copies of images may be of another one."""
    known = origin.size if origin else None
    if known and not ROBOFLOW.search(text.stem):
        return known
    size = pictures.size(text.picture)
    return known if known and size and alike(known, size) else size


def _class_names(fs: AbstractFileSystem, root: str, url: str) -> dict[int, str]:
    """
    Raises:
        UsageError: there are none, or different ones, as where a tool's files lie beside an
            export's, for tools number classes anew.
    """
    found = {}
    for name in CLASS_FILES:
        data = objects.get(fs, f"{root}/{name}")
        if data is not None:
            found[name] = _names(name, data.decode("utf-8-sig"), url)
    if not found:
        raise UsageError(f"{url} names no classes; it needs one of {', '.join(CLASS_FILES)}")
    (first, names), *others = found.items()
    for other, theirs in others:
        if theirs != names:
            raise UsageError(
                f"{first} and {other} of {url} name different classes, or in another order: keep "
                "only the one that belongs to these labels"
            )
    return names


def _names(name: str, text: str, url: str) -> dict[int, str]:
    if not name.endswith(".yaml"):
        return dict(enumerate(text.rstrip("\r\n").splitlines()))
    content = yaml.safe_load(text)
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if isinstance(names, dict):
        return {int(place): str(name) for place, name in names.items()}
    raise UsageError(f"{name} of {url} has no `names`: a list, or a map from numbers to names")


def _box(
    found: Collected, names: dict[int, str], size: tuple[int, int], words: list[str], where: str
) -> LabelledBox | None:
    """The box of a line, which may have a score as its sixth word."""
    if len(words) not in (5, 6):
        found.left_out[NO_RECTANGLE] += 1
        return None
    try:
        place, x, y, width, height = int(words[0]), *map(float, words[1:5])
    except ValueError:
        raise UsageError(
            f"{where} has the line {' '.join(words)[:80]!r}, which is not a box"
        ) from None
    if place not in names:
        raise UsageError(f"{where} has the class {place}, which has no name")
    left, top = (x - width / 2) * size[0], (y - height / 2) * size[1]
    return names[place], left, top, left + width * size[0], top + height * size[1]
