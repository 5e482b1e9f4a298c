"""COCO's instances JSON; every image that is listed was reviewed."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import words
from pipeline.errors import UsageError
from pipeline.labels import instances
from pipeline.labels.readers.collected import rotated, size_of
from pipeline.labels.readers.origins import Origin, Origins, plain

if TYPE_CHECKING:
    from pipeline.labels.truth import Truth


def read(url: str, truth: Truth, known: Origins) -> None:
    """Fill the truth, whose own URL is that for people.

    Args:
        url: of the file.
        truth: to be filled.
        known: the images of the export that the file came from.

    Raises:
        UsageError: it is no instances JSON, or has a rotated box.
        KeyError, TypeError, ValueError, ijson.JSONError: likewise.
    """
    _read_images(url, truth, known)
    categories = list(instances.items(url, "categories"))
    if not truth.ids or not categories:
        raise UsageError(
            f"{truth.url} lists no images or no categories, so it is not instances JSON"
        )
    names = _names(truth.url, categories)
    _read_boxes(url, truth, set(names))
    if not (len(truth.xywh) or truth.left_out or "annotations" in instances.keys(url)):
        raise UsageError(f"{truth.url} has no `annotations`, not even an empty list")
    truth.category_ids = _once_each(truth, names, categories)


def _read_images(url: str, truth: Truth, known: Origins) -> None:
    sizes, strangers = array("i"), array("b")
    for entry in instances.items(url, "images"):
        if not isinstance(entry, dict) or "id" not in entry:
            raise UsageError(
                f"{truth.url} has an image without an id: {words.printable(entry, 80)}"
            )
        image_id = instances.identifier(entry["id"])
        if image_id is None:
            raise UsageError(f"{truth.url} has an image whose id is {entry['id']!r}, not a number")
        truth.ids.append(image_id)
        name, origin = _name(entry, known)
        truth.names.append(name)
        strangers.append(origin is None and bool(known.names))
        sizes.extend(size_of(entry.get("width"), entry.get("height")))
    if len(truth.by_id) < len(truth.ids):
        raise UsageError(f"{truth.url} has two images with the same id")
    truth.sizes = np.frombuffer(sizes, np.int32).reshape(-1, 2)
    truth.strangers = np.frombuffer(strangers, bool)
    truth.attempts = np.where(truth.strangers, 0, known.attempt).astype(np.int32)


def _name(entry: dict[str, Any], known: Origins) -> tuple[str, Origin | None]:
    """The image's URI and that image, where the export leads back to it, or its name."""
    name = plain(str(entry.get("file_name") or entry.get("coco_url") or ""))
    extra = entry.get("extra")
    # Roboflow renames images, also to what another one may be called
    before = extra.get("name") if isinstance(extra, dict) else None
    origin = (known.find(str(before)) if before else None) or known.find(name)
    return origin.uri if origin else name, origin


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
            raise UsageError(
                f"{url} has a category whose id is {category!r}, not a number"
            ) from None
        if not 0 <= category < 2**31:  # below 0 is none, and boxes in memory have 32 bits for it
            raise UsageError(
                f"{url} has a category whose id is {category}: number categories from 0"
            )
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
    return UsageError(f"{url} has two categories with the name {name!r} or the id {category}")


# ------------------------------------------------------------------------------- boxes


def _read_boxes(url: str, truth: Truth, categories: set[int]) -> None:
    known = {str(category): category for category in categories}
    # used as they are, without a copy, for there may be millions
    places, labels, crowds = array("q"), array("q"), array("b")
    areas, xywh = array("d"), array("d")
    for entry in instances.items(url, "annotations"):
        try:
            place, category, box = _box(truth, known, entry)
        except instances.OddError as error:
            truth.left_out[str(error)] += 1
            continue
        places.append(place)
        labels.append(category)
        crowds.append(box.crowd)
        areas.append(box.area)
        xywh.extend(box.xywh)
    truth.image_places = np.frombuffer(places, np.int64)
    truth.box_categories = np.frombuffer(labels, np.int64)
    truth.crowds = np.frombuffer(crowds, bool)
    truth.areas = np.frombuffer(areas)
    truth.xywh = np.frombuffer(xywh).reshape(-1, 4)


def _box(truth: Truth, categories: dict[str, int], entry: Any) -> tuple[int, int, instances.Box]:
    """Place and category."""
    if not isinstance(entry, dict):
        raise instances.OddError("that are not JSON objects")
    image_id, category_id = entry.get("image_id"), entry.get("category_id")
    if type(image_id) is not int or type(category_id) is not int:  # which takes time
        image_id, category_id = map(instances.identifier, (image_id, category_id))
    place = truth.by_id.get(str(image_id))
    if place is None:
        raise instances.OddError("of an image that the file does not list")
    category = categories.get(str(category_id))
    if category is None:
        raise instances.OddError("of a category that the file does not list")
    if _rotation(entry) % 360:
        raise rotated(truth.names[place])
    return place, category, instances.box(entry)


def _rotation(entry: dict[str, Any]) -> float:
    """In degrees; CVAT writes it beside a box that is upright as if there were none."""
    attributes = entry.get("attributes")
    return float(attributes.get("rotation") or 0) if isinstance(attributes, dict) else 0.0
