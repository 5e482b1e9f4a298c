"""Samples of a stream of images: the best so many by a key, in bounded memory."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.labels.boxes import Image


@dataclass(frozen=True)
class Shown:
    """An image that is shown.

    Attributes:
        image: its detections; none where it failed.
        code: of the error, empty where it did not fail.
        message: of the error.
    """

    image: Image
    code: str = ""
    message: str = ""

    @classmethod
    def of(cls, image: Image) -> Shown:
        """A copy, for an image's arrays are parts of those of thousands."""
        names = ("classes", "scores", "xyxy")
        return cls(replace(image, **{name: getattr(image, name).copy() for name in names}))


@dataclass
class Best:
    """Keeps the samples of the largest keys; among equal keys, those of the smallest hash.

    Attributes:
        size: how many.
        kept: key negated, hash, sample; best first.
    """

    size: int
    kept: list[tuple[float, int, Shown]] = field(default_factory=list)

    def offer(
        self, keys: np.ndarray, ids: np.ndarray, rows: np.ndarray, sample: Callable[[int], Shown]
    ) -> None:
        """
        Args:
            keys: [n] of all rows.
            ids: [n] int64, of the images.
            rows: places in `keys` and `ids` of the rows that are offered.
            sample: makes the sample of a row; asked for those that are kept.
        """
        hashes = hashed(ids[rows])
        negated = -keys[rows].astype(float)
        for i in np.lexsort((hashes, negated))[: self.size].tolist():
            entry = (float(negated[i]), int(hashes[i]))
            if len(self.kept) == self.size and entry >= self.kept[-1][:2]:
                break
            bisect.insort(self.kept, (*entry, sample(int(rows[i]))), key=lambda known: known[:2])
            del self.kept[self.size :]

    @property
    def samples(self) -> list[Shown]:
        return [sample for _, _, sample in self.kept]


def hashed(ids: np.ndarray) -> np.ndarray:
    """[n] uint64, spread evenly and the same for an id in every report: splitmix64."""
    mixed = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
