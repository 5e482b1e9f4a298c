"""Which images and classes of a run are which of the ground truth."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import words
from pipeline.errors import UsageError
from pipeline.labels import boxes
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.classes import Classes
from pipeline.labels.output import Output
from pipeline.labels.sizes import Sizes
from pipeline.labels.truth import Truth
from pipeline.outputs.schema import ROW
from pipeline.store import urls

log = logging.getLogger(__name__)
NAMED_IMAGES = 5
IMAGE = ("image_uri", "width", "height")
# 28 bytes, for there may be many millions
FOUND = np.dtype([("place", "i4"), ("xyxy", "f4", 4), ("score", "f4"), ("category", "i4")])


@dataclass
class Matched:
    """The detections of those images of a run that the ground truth knows.

    Attributes:
        truth: the annotations.
        whole_names: whether images are matched by all of their `file_name`; otherwise the folders
            in it are others than the run's.
        uris: of the image of each place in `Truth.ids`, None where the run has none.
        failed: places whose image failed in the run; nothing was found there.
        found: [n] of dtype `FOUND`: place, corners in pixels, score, category id of the truth.
        without_truth: number of images of the run that the truth lacks.
        without_truth_examples: URIs of some, for people.
        left_out: detections by class name that the truth has no category for.
        conflict: two images of the run that are the same one of the truth, in words.
    """

    truth: Truth
    whole_names: bool
    uris: list[str | None] = field(init=False)
    failed: set[int] = field(default_factory=set)
    found: np.ndarray = field(default_factory=lambda: np.empty(0, FOUND))
    without_truth: int = 0
    without_truth_examples: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    conflict: str = ""

    def __post_init__(self) -> None:
        self.uris = [None] * len(self.truth.ids)
        self.parts: list[np.ndarray] = []
        self.sizes = Sizes(self.truth)

    @property
    def absent(self) -> list[int]:
        """Places of the truth's images of which the run has no row."""
        return [place for place, uri in enumerate(self.uris) if uri is None]

    def places(self, table: pa.Table, candidates: Sequence[tuple[int, bool] | None]) -> Any:
        """[rows] int64: the place of each row's image in the truth, -1 where it is not there."""
        places = np.full(len(table), -1)
        rows = zip(candidates, *(table[key].to_pylist() for key in IMAGE), strict=True)
        for row, (candidate, uri, *size) in enumerate(rows):
            if candidate is None or candidate[1] != self.whole_names:
                self.without_truth += 1
                if len(self.without_truth_examples) < NAMED_IMAGES:
                    self.without_truth_examples.append(_shown(uri))
                continue
            place = candidate[0]
            if (other := self.uris[place]) is not None:
                self.conflict = self.conflict or (
                    f"{_shown(other)} and {_shown(uri)} both match image {self.truth.ids[place]} "
                    f"({_shown(self.truth.names[place])}) of {self.truth.url}"
                )
            self.sizes.look(place, uri, *size)
            self.uris[place] = uri
            places[row] = place
        return places

    def add(self, owners: np.ndarray, chosen: BoxBatch, categories: np.ndarray, names: Any) -> None:
        """
        Args:
            owners: [n] the place of each detection's image, -1 for none.
            chosen: detections with labels that are places in `names`.
            categories: [n] category id of the truth, -1 for none.
            names: of the classes.
        """
        lost = chosen.labels[(owners >= 0) & (categories < 0)]
        for label, count in zip(*np.unique(lost, return_counts=True), strict=True):
            self.left_out[names[label]] += int(count)
        keep = (owners >= 0) & (categories >= 0)
        part = np.empty(int(np.count_nonzero(keep)), FOUND)
        part["place"], part["category"] = owners[keep], categories[keep]
        part["xyxy"], part["score"] = chosen.xyxy[keep], chosen.scores[keep]
        self.parts.append(part)

    def join(self) -> None:
        """Make `found` of the parts, which go one by one: both take twice the memory."""
        self.found = np.empty(sum(map(len, self.parts)), FOUND)
        end = len(self.found)
        while self.parts:
            part = self.parts.pop()
            self.found[end - len(part) : end] = part
            end -= len(part)


def match(
    output: Output,
    truth: Truth,
    classes: Classes,
    image_key: str | None = None,
) -> Matched:
    """Find each image of the run in the ground truth: by all of its name, or, if no image is
    found so, by the last part of its name.

    Args:
        output: the run's.
        truth: the annotations; their categories are matched by name.
        classes: which detections count, under which name.
        image_key: carried column with the truth's image id or file name; default: the URI.

    Raises:
        UsageError: no image or no class is in both, two images of the run or of the truth are the
            same one, or the column can hold no ids of the truth.
    """
    key = _checked_key(output, image_key)
    category_ids = _category_ids(truth, classes)
    by_name, by_base = Matched(truth, True), Matched(truth, False)
    keys: list[str | None] = []
    columns = list(dict.fromkeys([*boxes.COLUMNS, "status", key]))
    for table in output.tables(columns, task="matching"):
        values = _keys(table[key], output)
        keys = keys or values[:1]
        find: Callable[[str], Any] = truth.place_of_key if image_key else truth.place
        candidates = [None if value is None else find(value) for value in values]
        ok = np.array(table["status"].to_pylist()) == "ok"
        chosen = classes.choose(boxes.from_table(table.filter(pa.array(ok))))
        for matched in (by_name, by_base):
            places = matched.places(table, candidates)
            matched.failed.update(places[~ok & (places >= 0)].tolist())
            categories = category_ids[chosen.labels]
            matched.add(places[ok][chosen.owners], chosen, categories, classes.names)
    matched = by_name if any(uri is not None for uri in by_name.uris) else by_base
    _check(matched, output, keys, by_key=True)
    matched.join()
    return matched


def places(output: Output, truth: Truth, wanted: Collection[str] | None = None) -> dict[int, int]:
    """Place in the truth of each image that is ok and in both, by the run's `image_id`.

    Args:
        output: the run's.
        truth: the annotations.
        wanted: URIs of the images that count; default: all.

    Raises:
        UsageError: no image is in both, or two of one side are the same one of the other.
    """
    by_name, by_base = Matched(truth, True), Matched(truth, False)
    found: dict[bool, dict[int, int]] = {True: {}, False: {}}
    keys: list[str | None] = []
    for table in output.tables(("image_id", *IMAGE), ("ok",), "matching"):
        if wanted is not None:
            table = table.filter([uri in wanted for uri in table["image_uri"].to_pylist()])
        uris, ids = table["image_uri"].to_pylist(), table["image_id"].to_pylist()
        keys = keys or uris[:1]
        candidates = [truth.place(uri) for uri in uris]
        for matched in (by_name, by_base):
            rows = matched.places(table, candidates).tolist()
            pairs = zip(ids, rows, strict=True)
            found[matched.whole_names].update((k, place) for k, place in pairs if place >= 0)
    matched = by_name if found[True] else by_base
    if keys:
        _check(matched, output, keys, by_key=False)
    if not matched.whole_names and (count := len(found[False])):
        log.warning(
            "%s images matched by the last part of their names only: the folders differ", count
        )
    return found[matched.whole_names]


def _checked_key(output: Output, image_key: str | None) -> str:
    key = image_key or "image_uri"
    carried = [name for name in output.schema.names if name not in ROW.names]
    if key in ROW.names and key != "image_uri":
        own = "the run's own number of a row" if key == "image_id" else "of the run itself"
        raise UsageError(
            f"--image-key {key} is {own}, not an id of the annotations: name a column that "
            f"--carry has copied ({', '.join(carried) or 'this run has none'}), or leave "
            "--image-key out to match images by their names"
        )
    if key not in output.schema.names:
        raise UsageError(
            f"{output.url} has no column {key!r}; it has {', '.join(output.schema.names)}"
        )
    return key


def _check(matched: Matched, output: Output, keys: list[str | None], by_key: bool) -> None:
    truth = matched.truth
    if matched.conflict:
        way = "tell them apart with --image-key" if by_key else "leave one out with --images"
        raise UsageError(f"{matched.conflict}; {way}")
    if all(uri is None for uri in matched.uris):
        way = (
            "give the annotations of these images, or name the column that holds the id or file "
            "name with --image-key"
            if by_key
            else "give the annotations of these images"
        )
        raise UsageError(
            f"no image of {output.url} is in {truth.url}: the annotations have "
            f"{_shown(truth.names[0])!r} (id {truth.ids[0]}), the output has "
            f"{_shown(str(keys[0]))!r}; {way}"
        )
    matched.sizes.check()


def _shown(uri: str) -> str:
    return words.printable(urls.public(uri), 200)


def _category_ids(truth: Truth, classes: Classes) -> np.ndarray:
    """[classes] int64: the truth's category id of each class, -1 where it has none."""
    ids = truth.ids_of(classes.names)
    if max(ids, default=-1) < 0:
        theirs, ours = ", ".join([*truth.category_ids][:5]), ", ".join(classes.names[:5])
        raise UsageError(
            f"no class of the run is a category of {truth.url}: the annotations have {theirs}, "
            f"the run has {ours}; rename the classes to the categories with --classes"
        )
    return np.array([*ids, -1])[:-1]


def _keys(column: pa.ChunkedArray, output: Output) -> list[str | None]:
    """The keys of images as text; whole numbers that a table holds as floats as whole numbers."""
    values = column.to_pylist()
    if pa.types.is_floating(column.type):
        values = [int(v) if v is not None and float(v).is_integer() else v for v in values]
    elif not (
        pa.types.is_string(column.type)
        or pa.types.is_large_string(column.type)
        or pa.types.is_integer(column.type)
    ):
        raise UsageError(
            f"--image-key names a column of {column.type} in {output.url}; it needs one of text "
            "or whole numbers"
        )
    return [None if value is None else str(value) for value in values]
