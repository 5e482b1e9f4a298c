"""Ground truth in COCO's instances JSON, and which of its images an image of a run is."""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import ijson
import numpy as np

from pipeline import words
from pipeline.errors import UsageError
from pipeline.labels import instances
from pipeline.labels.image_names import ImageNames
from pipeline.locations import checked_url
from pipeline.store import failures

STRAY_IMAGE = "of an image that the file does not list"
STRAY_CATEGORY = "of a category that the file does not list"


@dataclass
class Truth:
    """The annotations of a data set.

    Attributes:
        url: of the file.
        ids: of the images, as in the file, in the file's order.
        names: `file_name` of each image, or its `coco_url`; empty where it has neither.
        category_ids: name to id, in order of id.
        image_places: [m] int64, each box's image as a place in `ids`.
        box_categories: [m] int64.
        xywh: [m, 4] float64, pixels.
        areas: [m] float64, of the object (its mask where there is one), which decides its size.
        crowds: [m] bool.
        left_out: number of annotations that cannot be used, by reason.
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
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def strays(self) -> int:
        """Boxes of images or categories that the file does not list."""
        return self.left_out[STRAY_IMAGE] + self.left_out[STRAY_CATEGORY]

    @cached_property
    def by_id(self) -> dict[str, int]:
        """The place in `ids` of each id, as text."""
        return {str(image_id): place for place, image_id in enumerate(self.ids)}

    @cached_property
    def by_name(self) -> ImageNames:
        """The images' names, to be found."""
        return ImageNames(self.names)

    def place(self, uri: str) -> tuple[int, bool] | None:
        """The place in `ids` of the image that is called so, and whether all of its name is, as
        `ImageNames.place` tells.
        """
        return self.by_name.place(uri)

    def place_of_key(self, key: str) -> tuple[int, bool] | None:
        """Likewise of the image with this id, or else with this `file_name`."""
        found = self.by_id.get(key)
        return self.place(key) if found is None else (found, True)

    def ids_of(self, classes: Sequence[str]) -> list[int]:
        """The file's category id of each class, -1 where it has none.

        By the same name, or else by one that differs in case only and is no other class's.

        Raises:
            UsageError: two categories differ in case only, and neither is called as the class.
        """
        taken = {self.category_ids.get(name) for name in classes}
        folded: dict[str, list[str]] = {}
        for name, category in self.category_ids.items():
            if category not in taken:
                folded.setdefault(fold_class(name), []).append(name)
        found = []
        for name in classes:
            like = [] if name in self.category_ids else folded.get(fold_class(name), [])
            if len(like) > 1:
                raise UsageError(
                    f"{self.url} has the categories {like[0]!r} and {like[1]!r}, and class {name!r}"
                    f" could be either; give it the name of one of them with --classes"
                )
            found.append(self.category_ids.get(like[0] if like else name, -1))
        return found


def fold_class(name: str) -> str:
    """A class name as it compares."""
    return unicodedata.normalize("NFC", name.strip().casefold())


def load_truth(url: str) -> Truth:
    """Read a file of annotations; also a zipped one, or one with a byte-order mark.

    Raises:
        UsageError: it cannot be read, is no instances JSON, or most of its annotations cannot be
            used.
    """
    url = checked_url("annotations", url)
    truth = Truth(url)
    try:
        _read_images(truth)
        categories = list(instances.items(url, "categories"))
        if not truth.ids or not categories:
            raise UsageError(f"{url} lists no images or no categories; it is no instances JSON")
        names = _names(url, categories)
        _read_boxes(truth, set(names))
        truth.category_ids = _once_each(truth, names, categories)
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError, ijson.JSONError) as error:
        raise UsageError(f"{url} is no instances JSON: {words.explain(error)}") from error
    except Exception as error:  # each file system has its own
        raise failures.unusable("read", url, error) from error
    _check(truth)
    return truth


def _read_images(truth: Truth) -> None:
    for entry in instances.items(truth.url, "images"):
        if not isinstance(entry, dict) or "id" not in entry:
            raise UsageError(
                f"{truth.url} has an image without an id: {words.printable(entry, 80)}"
            )
        image_id = instances.identifier(entry["id"])
        if image_id is None:
            raise UsageError(f"{truth.url} has an image whose id is {entry['id']!r}, no number")
        truth.ids.append(image_id)
        truth.names.append(str(entry.get("file_name") or entry.get("coco_url") or ""))
    if len(truth.by_id) < len(truth.ids):
        raise UsageError(f"{truth.url} has two images of one id")


# ------------------------------------------------------------------------------- categories


def _names(url: str, categories: list[dict[str, Any]]) -> dict[int, str]:
    """Name of each category id, in order of id."""
    found: dict[int, str] = {}
    for entry in categories:
        if not isinstance(entry, dict) or not {"id", "name"} <= set(entry):
            shown = words.printable(entry, 80)
            raise UsageError(f"{url} has a category without an id or a name: {shown}")
        name, category = str(entry["name"]), entry["id"]
        try:
            category = int(category)
        except (TypeError, ValueError):
            raise UsageError(f"{url} has a category whose id is {category!r}, no number") from None
        if category in found:
            raise _twice(url, name, category)
        found[category] = name
    return dict(sorted(found.items()))


def _once_each(
    truth: Truth, names: dict[int, str], categories: list[dict[str, Any]]
) -> dict[str, int]:
    """Name to id; of two of one name, that which is no unused root, as Roboflow writes one."""
    used = set(np.unique(truth.box_categories).tolist())
    top = {int(e["id"]) for e in categories if e.get("supercategory") in (None, "", "none")}
    found: dict[str, int] = {}
    for category, name in names.items():
        other = found.get(name)
        if other is None:
            found[name] = category
            continue
        roots = [k for k in (other, category) if k not in used and k in top]
        if len(roots) != 1:
            raise _twice(truth.url, name, category)
        found[name] = category if roots == [other] else other
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def _twice(url: str, name: str, category: int) -> UsageError:
    return UsageError(f"{url} has two categories of name {name!r} or id {category}")


# ------------------------------------------------------------------------------- boxes


def _read_boxes(truth: Truth, categories: set[int]) -> None:
    known = {str(category): category for category in categories}
    values = array("d")  # eight numbers a box, for there may be millions
    for entry in instances.items(truth.url, "annotations"):
        try:
            values.extend(_box(truth, known, entry))
        except instances.OddError as error:
            truth.left_out[str(error)] += 1
    table = np.array(values).reshape(-1, 8)
    truth.image_places = table[:, 0].astype(np.int64)
    truth.box_categories = table[:, 1].astype(np.int64)
    truth.crowds = table[:, 2].astype(bool)
    truth.areas = table[:, 3].copy()
    truth.xywh = table[:, 4:].copy()


def _box(truth: Truth, categories: dict[str, int], entry: Any) -> tuple[float, ...]:
    """Place, category, whether a crowd, area, and the box."""
    if not isinstance(entry, dict):
        raise instances.OddError("that are no objects of JSON")
    image_id, category_id = entry.get("image_id"), entry.get("category_id")
    if type(image_id) is not int or type(category_id) is not int:  # which takes time
        image_id, category_id = map(instances.identifier, (image_id, category_id))
    place = truth.by_id.get(str(image_id))
    if place is None:
        raise instances.OddError(STRAY_IMAGE)
    category = categories.get(str(category_id))
    if category is None:
        raise instances.OddError(STRAY_CATEGORY)
    xywh, area, crowd = instances.box(entry)
    return place, category, crowd, area, *xywh


def _check(truth: Truth) -> None:
    lost, kept = sum(truth.left_out.values()), len(truth.box_categories)
    if lost > kept:
        raise UsageError(
            f"{lost:,} of the {lost + kept:,} annotations of {truth.url} cannot be used: "
            f"{told(truth.left_out)}; give the file that its images and annotations come from"
        )


def told(reasons: Counter[str]) -> str:
    """Counts and their reasons for a person, the most first."""
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
