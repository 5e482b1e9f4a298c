"""Ground truth in COCO's instances JSON, and which of its images an image of a run is."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import ijson
import numpy as np

from pipeline import words
from pipeline.config import checked_url
from pipeline.errors import UsageError
from pipeline.store import failures, urls


@dataclass
class Truth:
    """The annotations of a data set.

    Attributes:
        url: of the file.
        ids: of the images, as in the file, in the file's order.
        names: `file_name` of each image, empty where it has none.
        category_ids: name to id, in order of id.
        image_places: [m] int64, each box's image as a place in `ids`.
        box_categories: [m] int64.
        xywh: [m, 4] float64, pixels.
        areas: [m] float64, of the object (its mask where there is one), which decides its size.
        crowds: [m] bool.
        strays: boxes of images or categories that the file does not list, left out.
    """

    url: str
    ids: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    category_ids: dict[str, int] = field(default_factory=dict)
    image_places: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    box_categories: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    xywh: np.ndarray = field(default_factory=lambda: np.empty((0, 4)))
    areas: np.ndarray = field(default_factory=lambda: np.empty(0))
    crowds: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    strays: int = 0

    def __post_init__(self) -> None:
        self.by_base: dict[str, list[int]] = defaultdict(list)
        self.by_id: dict[str, int] = {}

    def index(self) -> None:
        """Prepare `place` and `place_of_key`."""
        for place, (image_id, name) in enumerate(zip(self.ids, self.names, strict=True)):
            if name:
                self.by_base[name.rpartition("/")[2]].append(place)
            self.by_id[str(image_id)] = place

    def place(self, uri: str) -> tuple[int, bool] | None:
        """The place in `ids` of the image that is called so, and whether all of its name is.

        All of its `file_name` is the end of the URI, or else only its last part is, and no other
        image of the file has the same.
        """
        path = urls.public(uri)
        for text in (path, unquote(path)):
            candidates = self.by_base.get(text.rpartition("/")[2], [])
            whole = [p for p in candidates if f"/{text}".endswith("/" + self.names[p].lstrip("/"))]
            if whole:
                return max(whole, key=lambda place: len(self.names[place])), True
            if len(candidates) == 1:
                return candidates[0], False
        return None

    def place_of_key(self, key: str) -> tuple[int, bool] | None:
        """Likewise of the image with this id, or else with this `file_name`."""
        found = self.by_id.get(key)
        return self.place(key) if found is None else (found, True)

    def image_id(self, uri: str) -> Any | None:
        """The file's id of the image that is called so."""
        found = self.place(uri)
        return None if found is None else self.ids[found[0]]


def load_truth(url: str) -> Truth:
    """Read a file of annotations, an object at a time: masks never take memory.

    Raises:
        UsageError: it cannot be read, or is no instances JSON.
    """
    url = checked_url("annotations", url)
    truth = Truth(url)
    try:
        for entry in _items(url, "images"):
            if not isinstance(entry["id"], int | str):
                raise UsageError(f"{url} has an image whose id is {entry['id']!r}, no number")
            truth.ids.append(entry["id"])
            truth.names.append(str(entry.get("file_name") or ""))
        for entry in sorted(_items(url, "categories"), key=lambda entry: int(entry["id"])):
            name, category = str(entry["name"]), int(entry["id"])
            if name in truth.category_ids or category in truth.category_ids.values():
                raise UsageError(f"{url} has two categories of name {name!r} or id {category}")
            truth.category_ids[name] = category
        truth.index()
        if len(truth.by_id) < len(truth.ids):
            raise UsageError(f"{url} has two images of one id")
        if not truth.ids or not truth.category_ids:
            raise UsageError(f"{url} lists no images or no categories; it is no instances JSON")
        _read_boxes(truth)
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError, ijson.JSONError) as error:
        raise UsageError(f"{url} is no instances JSON: {words.explain(error)}") from error
    except Exception as error:  # each file system has its own
        raise failures.unusable("read", url, error) from error
    return truth


def _items(url: str, key: str) -> Iterator[dict[str, Any]]:
    fs, path = urls.filesystem(url)
    with fs.open(path, "rb") as file:
        yield from ijson.items(file, f"{key}.item", use_float=True)


def _read_boxes(truth: Truth) -> None:
    places = {image_id: place for place, image_id in enumerate(truth.ids)}
    known = set(truth.category_ids.values())
    values = array("d")  # eight numbers a box, for there may be millions
    for entry in _items(truth.url, "annotations"):
        place = places.get(entry["image_id"])
        if place is None or entry["category_id"] not in known:
            truth.strays += 1
            continue
        x, y, width, height = map(float, entry["bbox"])
        area = float(entry.get("area", width * height))
        crowd = bool(entry.get("iscrowd", 0))
        values.extend((place, entry["category_id"], crowd, area, x, y, width, height))
    table = np.array(values).reshape(-1, 8)
    truth.image_places = table[:, 0].astype(np.int64)
    truth.box_categories = table[:, 1].astype(np.int64)
    truth.crowds = table[:, 2].astype(bool)
    truth.areas = table[:, 3].copy()
    truth.xywh = table[:, 4:].copy()
