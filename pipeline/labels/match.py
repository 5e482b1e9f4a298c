"""Which images and classes of a run are which of the ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipeline.config import UsageError
from pipeline.labels import boxes
from pipeline.labels.classes import Classes
from pipeline.labels.output import Output
from pipeline.labels.truth import Truth

EXAMPLES = 5


@dataclass
class Matched:
    """The detections of those images of a run that the ground truth knows.

    Attributes:
        uris: of the image of each place in `Truth.ids`, None where the run has none.
        failed: places whose image failed in the run; nothing was found there.
        results: [n, 7] float64: place, x, y, width, height, score, category id of the truth.
        without_truth: number of images of the run that the truth lacks.
        without_truth_examples: URIs of some.
        left_out: detections by class name that the truth has no category for.
    """

    uris: list[str | None]
    failed: set[int] = field(default_factory=set)
    results: np.ndarray = field(default_factory=lambda: np.empty((0, 7)))
    without_truth: int = 0
    without_truth_examples: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def absent(self) -> list[int]:
        """Places of the truth's images of which the run has no row."""
        return [place for place, uri in enumerate(self.uris) if uri is None]


def match(output: Output, truth: Truth, classes: Classes, image_key: str | None = None) -> Matched:
    """Find each image of the run in the ground truth.

    Args:
        output: the run's.
        truth: the annotations; their categories are matched by name.
        classes: which detections count, under which name.
        image_key: column of the output with the truth's image id or file name; default: the URI.

    Raises:
        UsageError: no image or no class is in both, or two images of the run are the same one.
    """
    matched = Matched([None] * len(truth.ids))
    category_ids = _category_ids(truth, classes)
    parts = [np.empty((0, 7))]
    key = image_key or "image_uri"
    columns = list(dict.fromkeys([*boxes.COLUMNS, "status", key]))
    for table in _tables(output, columns, key):
        places = _places(table, truth, matched, key)
        ok = np.array(table["status"].to_pylist()) == "ok"
        matched.failed.update(places[~ok & (places >= 0)].tolist())
        chosen = classes.choose(boxes.from_table(table.filter(pa.array(ok))))
        owners = places[ok][chosen.owners]
        categories = category_ids[chosen.labels]
        for label, count in zip(*np.unique(chosen.labels[categories < 0], return_counts=True),
                                strict=True):  # fmt: skip
            name = classes.names[label]
            matched.left_out[name] = matched.left_out.get(name, 0) + int(count)
        keep = (owners >= 0) & (categories >= 0)
        corners = chosen.xyxy[keep].astype(np.float64)
        parts.append(
            np.column_stack(
                [owners[keep], corners[:, :2], corners[:, 2:] - corners[:, :2],
                 chosen.scores[keep], categories[keep]]
            )
        )  # fmt: skip
    matched.results = np.concatenate(parts)
    if all(uri is None for uri in matched.uris):
        example = (matched.without_truth_examples or ["none"])[0]
        raise UsageError(
            f"no image of {output.url} is in {truth.url}: there, images are called "
            f"{truth.names[0]!r} (id {truth.ids[0]}), here {example!r}; name the column that holds "
            f"the id or file name with --image-key"
        )
    return matched


def _tables(output: Output, columns: list[str], key: str) -> Iterator[pa.Table]:
    known = output.schema.names
    if key not in known:
        raise UsageError(f"{output.url} has no column {key!r}; it has {', '.join(known)}")
    yield from output.tables(columns, task="matching")


def _category_ids(truth: Truth, classes: Classes) -> np.ndarray:
    """[classes] int64: the truth's category id of each class, -1 where it has none."""
    folded = {name.strip().casefold(): k for name, k in truth.category_ids.items()}
    ids = [truth.category_ids.get(n, folded.get(n.strip().casefold(), -1)) for n in classes.names]
    if max(ids, default=-1) < 0:
        theirs, ours = ", ".join([*truth.category_ids][:5]), ", ".join(classes.names[:5])
        raise UsageError(
            f"no class of the run is a category of {truth.url}: there {theirs}, here {ours}; give "
            f"the classes the names of the categories with --classes"
        )
    return np.array([*ids, -1])[:-1]


def _places(table: pa.Table, truth: Truth, matched: Matched, key: str) -> np.ndarray:
    """[rows] int64: the place of each row's image in the truth, -1 where it is not there."""
    find = truth.place if key == "image_uri" else truth.place_of_key
    places = np.full(len(table), -1)
    rows = zip(table[key].to_pylist(), table["image_uri"].to_pylist(), strict=True)
    for row, (value, uri) in enumerate(rows):
        place = None if value is None else find(str(value))
        if place is None:
            matched.without_truth += 1
            if len(matched.without_truth_examples) < EXAMPLES:
                matched.without_truth_examples.append(uri)
            continue
        if matched.uris[place] is not None:
            raise UsageError(
                f"{matched.uris[place]} and {uri} are both called as image {truth.ids[place]} "
                f"({truth.names[place]}) of {truth.url}; tell them apart with --image-key"
            )
        matched.uris[place] = uri
        places[row] = place
    return places
