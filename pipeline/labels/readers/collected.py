"""What a reader has found so far, in flat arrays, for there may be millions of boxes."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pipeline import words
from pipeline.errors import UsageError
from pipeline.labels.readers.origins import Origin, Origins
from pipeline.store import urls

NO_RECTANGLE = "that are not rectangles"
WITHOUT_LABEL = "without a label, or with several"

# label, left, top, right, bottom in pixels of the upright image
LabelledBox = tuple[str, float, float, float, float]


class Collected:
    """Images that were reviewed, and their boxes.

    Attributes:
        names: URI of each image, where the export leads back to it, or its name.
        sizes: two numbers an image, its width and height; 0 where they are not known.
        category_ids: name to id; those of the export, others behind them.
        image_places, box_categories: of each box.
        xyxy: four numbers a box.
        left_out: boxes that cannot be used, by reason.
        versions: of tables of Lance, by the URIs of their images.
        unreviewed: number of images that no person has reviewed, by reason.
        reads: how the runs of corrections read their images, as `Truth` has it.
        exports: the content of each `export.json` that the parts came from.
        attempts: of the run, after which each image was exported; 0 if that is not known.
        strangers: whether each image is none of an export whose images are known.
        origins: of the part that is being read.
        led_back: number of images that the export has.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sizes = array("i")
        self.category_ids: dict[str, int] = {}
        self.image_places = array("q")
        self.box_categories = array("q")
        self.xyxy = array("d")
        self.left_out: Counter[str] = Counter()
        self.versions: dict[str, int] = {}
        self.unreviewed: Counter[str] = Counter()
        self.reads: list[dict[str, Any]] = []
        self.exports: list[dict[str, Any]] = []
        self.attempts = array("i")
        self.strangers = array("b")
        self.origins = Origins()
        self.led_back = 0
        self.taken: set[str] = set()
        self.next_id = 1

    def begin(self, origins: Origins) -> None:
        """The next part is of the export that has these images."""
        self.origins = origins
        if origins.record and origins.record not in self.exports:
            self.exports.append(origins.record)
        for entry in (origins.record or {}).get("classes", ()):
            self.declare(str(entry["name"]), int(entry["id"]))

    def add(
        self,
        name: str,
        boxes: Iterable[LabelledBox],
        origin: Origin | None,
        size: tuple[int, int] = (0, 0),
    ) -> None:
        """An image that was reviewed.

        Args:
            name: as the file has it.
            boxes: of the image.
            origin: the image of the export that it is, as from `origins`.
            size: width and height of which the boxes are pixels, where the file says so.

        Raises:
            UsageError: the image was there before.
        """
        name = origin.uri if origin else name
        self.led_back += origin is not None
        if name in self.taken:
            shown = words.printable(urls.public(name), 200)
            raise UsageError(f"the annotations list the image {shown} twice: leave one out")
        self.taken.add(name)
        for label, *corners in boxes:
            if not label:
                self.left_out[WITHOUT_LABEL] += 1
            elif not all(map(math.isfinite, corners)):
                self.left_out["whose corners are not numbers"] += 1
            elif corners[2] < corners[0] or corners[3] < corners[1]:
                self.left_out["whose box has a negative width or height"] += 1
            else:
                self.image_places.append(len(self.names))
                self.box_categories.append(self._category(label))
                self.xyxy.extend(corners)
        self.names.append(name)
        self.sizes.extend(size)
        stranger = origin is None and bool(self.origins.names)
        self.attempts.append(0 if stranger else self.origins.attempt)
        self.strangers.append(stranger)

    def _category(self, label: str) -> int:
        known = self.category_ids.get(label)
        if known is not None:
            return known
        label = self.origins.label(label)
        if label not in self.category_ids:
            self.declare(label, self.next_id)
        return self.category_ids[label]

    def declare(self, name: str, category: int) -> None:
        """A category, if it is a new one, with this id unless another has that."""
        if name in self.category_ids:
            return
        if category in self.category_ids.values():  # parts can be of exports with other names
            category = self.next_id
        self.category_ids[name] = category
        self.next_id = max(self.next_id, category + 1)


def size_of(width: Any, height: Any) -> tuple[int, int]:
    """Width and height out of numbers or texts; 0 where they are none.

    >>> size_of("640", 480.0), size_of(None, 480)
    ((640, 480), (0, 0))
    """
    try:
        found = int(float(width)), int(float(height))
    except (TypeError, ValueError, OverflowError):
        return 0, 0
    return found if all(0 < side < 2**31 for side in found) else (0, 0)


def alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one picture is the other, made smaller or larger to whole pixels.

    >>> alike((1007, 4000), (64, 256)), alike((200, 100), (100, 51))
    (True, False)
    """
    # either side of the smaller one may be the one that was rounded
    return abs(one[0] * other[1] - one[1] * other[0]) < max(*one, *other)


def corners_of(name: str, texts: Iterable[str | None]) -> list[float]:
    """The four corners of a box, out of texts.

    Raises:
        UsageError: one is none, or no number.
    """
    texts = list(texts)
    try:
        return [float(text or "") for text in texts]
    except ValueError:
        shown = words.printable(urls.public(name), 200)
        raise UsageError(
            f"image {shown} has a box whose corners are {texts}: each must be a number, with a "
            "decimal point"
        ) from None


def rotated(name: str) -> UsageError:
    """The refusal of a box that stands aslant."""
    return UsageError(
        f"image {words.printable(urls.public(name), 200)} has a rotated box, and only upright "
        "boxes are supported: set its rotation to 0, or draw it again"
    )


def sizeless(name: str) -> UsageError:
    """The refusal of fractions of what is not known."""
    return UsageError(
        f"the size of image {words.printable(urls.public(name), 200)} is not known, and its boxes "
        "are fractions of it: put an export's images.csv that has widths and heights, or the "
        "image itself, beside the annotations"
    )
