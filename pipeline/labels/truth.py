"""Ground truth of any format, and which of its images an image of a run is."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.errors import UsageError
from pipeline.labels.image_names import ImageNames


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
        sizes: [n, 2] int32, width and height of each image of which `xywh` are pixels, as the
            annotations say; 0 where they do not.
        left_out: number of annotations that cannot be used, by reason.
        unreviewed: number of images that no person has reviewed, by reason; they are not in `ids`.
        versions: of the tables of Lance that images are in, by their names, where it is known.
        reads: how the runs of `corrections.parquet` read their images, by fields of `Config`.
        attempts: [n] int32, number of the run's attempt after which each image was exported; 0 if
            that is not known.
        strangers: [n] bool, which images the `images.csv` beside them lacks.
        exports: `export.json` of each export that the annotations came from, as far as it is there.
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
    sizes: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.int32))
    left_out: Counter[str] = field(default_factory=Counter)
    unreviewed: Counter[str] = field(default_factory=Counter)
    versions: dict[str, int] = field(default_factory=dict)
    reads: list[dict[str, Any]] = field(default_factory=list)
    attempts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    strangers: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    exports: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not len(self.sizes):
            self.sizes = np.zeros((len(self.ids), 2), np.int32)
        if not len(self.attempts):
            self.attempts = np.zeros(len(self.ids), np.int32)
        if not len(self.strangers):
            self.strangers = np.zeros(len(self.ids), bool)

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

    def of(self, places: np.ndarray) -> Truth:
        """The annotations of some of the images alone.

        Args:
            places: [n] int64, rising, in `ids`.
        """
        new = np.full(len(self.ids), -1)
        new[places] = np.arange(len(places))
        kept = self.only(new[self.image_places] >= 0)
        return replace(
            kept,
            ids=[self.ids[place] for place in places],
            names=[self.names[place] for place in places],
            sizes=self.sizes[places],
            attempts=self.attempts[places],
            strangers=self.strangers[places],
            image_places=new[kept.image_places],
        )

    def only(self, mine: np.ndarray) -> Truth:
        """Some of the annotations alone, by an array [m] of bool, of the same images."""
        return replace(
            self,
            image_places=self.image_places[mine],
            box_categories=self.box_categories[mine],
            xywh=self.xywh[mine],
            areas=self.areas[mine],
            crowds=self.crowds[mine],
        )

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


def told(reasons: Counter[str]) -> str:
    """Counts and their reasons for a person, the most first."""
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
