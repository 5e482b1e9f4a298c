"""What has changed between two outputs, counted; the images that changed most."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from pipeline.labels.boxes import BoxBatch
from pipeline.labels.diff.pairing import KINDS, NOT_IN_A, NOT_IN_B, RELABELLED, SAME, Changes
from pipeline.labels.report.samples import Best, Shown
from pipeline.labels.report.statistics import count_pairs

NAMED = 5
# of the list of changed images, at about 200 bytes each
MOST_LISTED = 1_000_000

LIST = pa.schema(
    [
        ("rank", pa.int64()),
        ("image_id", pa.int64()),
        ("image_uri", pa.string()),
        ("change", pa.float32()),
        *((kind, pa.int32()) for kind in KINDS),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Compared(Shown):
    """An image with the boxes of both sides.

    Attributes:
        change: the sum of its boxes' amounts.
        kinds: [k] int64, what became of each box, places in `KINDS`.
        labels: [k, 2] int64 of A and B, -1 where a side has no such box.
        scores: [k, 2] float32.
        xyxy: [k, 2, 4] float32, pixels.
    """

    change: float
    kinds: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    xyxy: np.ndarray


@dataclass
class Tally:
    """Counts over all images, and the most changed ones.

    Attributes:
        names: of the categories of both sides.
        pictures: samples wanted.
        listed: whether the list of changed images is wanted.
        images: that were compared.
        changed: of them, those with a box that is not the same.
        failed: number of images that failed in A only, in B only, in both; not compared.
        failed_examples: URIs of some that failed in A only, in B only.
        resized: number of images whose sizes differ between the sides; not compared.
        resized_examples: URIs of some.
        replaced: number of images whose files differ between the sides; not compared.
        replaced_examples: URIs of some.
        boxes: [categories, 2] int64, boxes of A and B that reach the threshold.
        kinds: [categories, kinds] int64, by A's label, or by B's where A's score does not reach the
            threshold.
        confusions: number of relabelled boxes by label in A and in B, places in `names`.
        best: the most changed images.
    """

    names: list[str]
    pictures: int
    listed: bool
    images: int = 0
    changed: int = 0
    failed: list[int] = field(default_factory=lambda: [0, 0, 0])
    failed_examples: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))
    resized: int = 0
    resized_examples: list[str] = field(default_factory=list)
    replaced: int = 0
    replaced_examples: list[str] = field(default_factory=list)
    confusions: Counter[tuple[int, int]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.boxes = np.zeros((len(self.names), 2), np.int64)
        self.kinds = np.zeros((len(self.names), len(KINDS)), np.int64)
        self.best = Best(self.pictures)
        self.parts: list[pa.Table] = []

    def add(self, a: BoxBatch, b: BoxBatch, found: Changes) -> None:
        """Count the images of a batch."""
        n, labels = len(a.ids), _labels(a, b, found)
        by = np.where(np.isin(found.kinds, NOT_IN_A), labels[:, 1], labels[:, 0])
        count_pairs(self.kinds, by, found.kinds)
        for side, absent in enumerate((NOT_IN_A, NOT_IN_B)):
            there = labels[~np.isin(found.kinds, absent), side]
            self.boxes[:, side] += np.bincount(there, minlength=len(self.names))
        swapped = labels[found.kinds == RELABELLED]
        pairs, counts = np.unique(swapped, axis=0, return_counts=True)
        for (ours, theirs), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            self.confusions[ours, theirs] += count
        counted = np.zeros((n, len(KINDS)), np.int64)
        count_pairs(counted, found.images, found.kinds)
        change = np.bincount(found.images, found.amounts, n)
        rows = np.flatnonzero(counted.sum(1) > counted[:, SAME])
        self.images += n
        self.changed += len(rows)
        self.best.offer(change, a.ids, rows, lambda row: _sample(row, change, a, b, found))
        if self.listed and len(rows):
            self._list(a, rows, change, counted)

    def add_failed(self, uris: pa.ChunkedArray, ok_a: np.ndarray, ok_b: np.ndarray) -> None:
        """Count images ([n] bool each, whether it is ok) of which one at least failed."""
        kinds = (~ok_a & ok_b, ok_a & ~ok_b, ~ok_a & ~ok_b)
        for place, rows in enumerate(kinds):
            self.failed[place] += int(rows.sum())
        for named, rows in zip(self.failed_examples, kinds, strict=False):
            some = np.flatnonzero(rows)[: NAMED - len(named)]
            named.extend(uris.take(pa.array(some)).to_pylist())

    def add_resized(self, uris: list[str]) -> None:
        """Count images whose sizes differ."""
        self.resized += len(uris)
        self.resized_examples += uris[: NAMED - len(self.resized_examples)]

    def add_replaced(self, uris: list[str]) -> None:
        """Count images whose files differ."""
        self.replaced += len(uris)
        self.replaced_examples += uris[: NAMED - len(self.replaced_examples)]

    @property
    def totals(self) -> dict[str, int]:
        """Number of boxes by kind."""
        return dict(zip(KINDS, self.kinds.sum(0).tolist(), strict=True))

    def table(self) -> pa.Table:
        """The changed images, most changed first, at most `MOST_LISTED`; of the schema `LIST`."""
        self._shorten()
        table = self.parts[0] if self.parts else LIST.empty_table()
        ranks = pa.array(np.arange(1, len(table) + 1))
        return table.set_column(0, LIST.field("rank"), ranks)

    def _list(self, a: BoxBatch, rows: np.ndarray, change: np.ndarray, counted: np.ndarray) -> None:
        columns = [
            np.zeros(len(rows), np.int64),
            a.ids[rows],
            pa.array([a.uris[row] for row in rows.tolist()], pa.string()),
            change[rows].astype(np.float32),
            *counted[rows].astype(np.int32).T,
        ]
        self.parts.append(pa.table([pa.array(column) for column in columns], schema=LIST))
        if sum(map(len, self.parts)) >= 2 * MOST_LISTED:
            self._shorten()

    def _shorten(self) -> None:
        if self.parts:
            table = pa.concat_tables(self.parts)
            order = np.lexsort((table["image_id"].to_numpy(), -table["change"].to_numpy()))
            self.parts = [table.take(order[:MOST_LISTED])]


def _labels(a: BoxBatch, b: BoxBatch, found: Changes) -> np.ndarray:
    """[k, 2] int64, labels of A and B, -1 where there is none."""
    sides = ((a.labels, found.a), (b.labels, found.b))
    return np.stack([_at(labels, places, -1) for labels, places in sides], 1)


def _at(values: np.ndarray, places: np.ndarray, missing: float) -> np.ndarray:
    """The values at places; `missing` where a place is -1."""
    shape = (len(places), *values.shape[1:])
    found = np.full(shape, missing, values.dtype)
    found[places >= 0] = values[places[places >= 0]]
    return found


def _sample(row: int, change: np.ndarray, a: BoxBatch, b: BoxBatch, found: Changes) -> Compared:
    mine = np.flatnonzero(found.images == row)
    of_a, of_b, none = found.a[mine], found.b[mine], np.empty(0)
    return Compared(
        image=replace(a.image(row), classes=none, scores=none, xyxy=none),
        change=float(change[row]),
        kinds=found.kinds[mine],
        labels=np.stack([_at(a.labels, of_a, -1), _at(b.labels, of_b, -1)], 1),
        scores=np.stack([_at(a.scores, of_a, np.nan), _at(b.scores, of_b, np.nan)], 1),
        xyxy=np.stack([_at(a.xyxy, of_a, np.nan), _at(b.xyxy, of_b, np.nan)], 1),
    )
