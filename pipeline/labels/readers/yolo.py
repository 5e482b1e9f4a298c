"""YOLO: a text file an image, and the names of the classes."""

from __future__ import annotations

import posixpath
import re
from typing import Any

import yaml
from fsspec import AbstractFileSystem

from pipeline.errors import UsageError
from pipeline.labels.readers.collected import NO_RECTANGLE, Collected, LabelledBox, sizeless
from pipeline.labels.readers.files import Pictures, contents
from pipeline.store import objects, urls

# of Ultralytics, Label Studio and CVAT's YOLO 1.1
CLASS_FILES = ("data.yaml", "dataset.yaml", "classes.txt", "obj.names")
LABEL_FOLDERS = {"labels": "images", "obj_train_data": "obj_train_data"}
SPLIT = re.compile("^(train|val|test)/", re.IGNORECASE)
NUMBERS = re.compile(r"[\d\s.eE+-]*")


def read(url: str, found: Collected) -> None:
    """Every image that has a file was reviewed, with an empty one as background.

    Raises:
        UsageError: classes or sizes are not known, or no text is an image's.
    """
    fs, root = urls.filesystem(url)
    root = root.rstrip("/")
    names = _class_names(fs, root, url)
    folder = next((name for name in LABEL_FOLDERS if fs.isdir(f"{root}/{name}")), None)
    pictures = Pictures(fs, f"{root}/{LABEL_FOLDERS[folder]}" if folder else root)
    labels = f"{root}/{folder}" if folder else root
    paths = [path for path in sorted(fs.find(labels)) if path.endswith(".txt")]
    paths = [path for path in paths if posixpath.basename(path) not in CLASS_FILES]
    any_labels = False
    for path, data in contents(fs, paths):
        stem = posixpath.splitext(path.partition(f"{labels.lstrip('/')}/")[2])[0]
        text = data.decode(errors="replace")
        # the export's names stand below the folder of the split
        origin = found.origins.find_stem(SPLIT.sub("", stem), stem)
        picture = pictures.by_stem.get(stem) if not origin else None
        if not (folder or origin or picture or NUMBERS.fullmatch(text)):
            continue  # a list of names, or prose
        any_labels = True
        name = origin.uri if origin else stem + posixpath.splitext(picture or path)[1]
        size: Any = (origin.width, origin.height) if origin and origin.width else None
        lines = [line.split() for line in text.splitlines() if line.strip()]
        size = size or (pictures.size(stem) if lines else (1, 1))
        if size is None:
            raise sizeless(name)
        where = urls.url_of(fs, path)
        boxes = (_box(found, names, size, words, where) for words in lines)
        found.add(name, [box for box in boxes if box], origin)
    if paths and not any_labels:
        raise UsageError(f"{urls.public(url)} has texts, but none is an image's or has boxes")


def _class_names(fs: AbstractFileSystem, root: str, url: str) -> dict[int, str]:
    for name in CLASS_FILES:
        data = objects.get(fs, f"{root}/{name}")
        if data is None:
            continue
        text = data.decode("utf-8-sig")
        if not name.endswith(".yaml"):
            return dict(enumerate(text.splitlines()))
        content = yaml.safe_load(text)
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, list):
            names = dict(enumerate(names))
        if isinstance(names, dict):
            return {int(place): str(name) for place, name in names.items()}
        raise UsageError(f"{name} of {url} has no `names`: a list, or a map from numbers to names")
    raise UsageError(f"{url} names no classes; it needs one of {', '.join(CLASS_FILES)}")


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
        raise UsageError(f"{where} has the line {' '.join(words)[:80]!r}: no box") from None
    if place not in names:
        raise UsageError(f"{where} has the class {place}, which has no name")
    left, top = (x - width / 2) * size[0], (y - height / 2) * size[1]
    return names[place], left, top, left + width * size[0], top + height * size[1]
