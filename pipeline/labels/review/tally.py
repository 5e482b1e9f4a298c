"""Counts of what people did, by category and by image, and what it took and saved."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import UsageError
from pipeline.labels.review.batch import ADDED, KEPT, MOVED, RELABELLED, Batch


@dataclass(frozen=True)
class Effort:
    """How long people take, in seconds.

    Both are medians of Su, Deng and Fei-Fei, Crowdsourcing annotations for visual object detection
    (2012), who drew the boxes of ImageNet. Papadopoulos et al., Extreme clicking for efficient
    object annotation (2017), needed 7 s a box.

    Attributes:
        box: to draw a box.
        look: to judge one that is there.

    Raises:
        UsageError: one of them is no time.
    """

    box: float = 25.5
    look: float = 9.0

    def __post_init__(self) -> None:
        for flag, value in (("box", self.box), ("look", self.look)):
            if not 0 <= value < float("inf"):
                raise UsageError(f"--seconds-per-{flag} must be 0 or more, not {value:g}")


class Tally:
    """
    Attributes:
        edits: of each image.
        relabels: number of boxes by class before and after, as places in the names.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.edits = array("i")
        self.relabels: Counter[tuple[int, int]] = Counter()
        # by class that was shown: all, relabelled, deleted; by class that was left: the rest
        keys = ("shown", "relabelled", "deleted", "kept", "moved", "relabelled_to", "added")
        self.counts = {key: np.zeros(classes, np.int64) for key in keys}

    def add(self, batch: Batch) -> None:
        self.edits.extend(batch.edits.tolist())
        renamed = batch.sources == RELABELLED
        before, after = batch.before[renamed], batch.classes[renamed]
        self.relabels.update(zip(before.tolist(), after.tolist(), strict=True))
        groups = {
            "shown": batch.shown.labels,
            "relabelled": before,
            "deleted": batch.shown.labels[batch.deleted],
            "kept": batch.classes[batch.sources == KEPT],
            "moved": batch.classes[batch.sources == MOVED],
            "relabelled_to": after,
            "added": batch.classes[batch.sources == ADDED],
        }
        for key, classes in groups.items():
            self.counts[key] += np.bincount(classes, minlength=self.classes)

    def totals(self) -> dict[str, Any]:
        """Of all categories, with precision and recall."""
        summed = {key: int(values.sum()) for key, values in self.counts.items()}
        del summed["relabelled_to"]  # the same once more
        return summed | rates(summed, summed["relabelled"])

    def categories(self, names: list[str]) -> list[dict[str, Any]]:
        """Likewise by category, those left out of which nothing was shown or left."""
        entries = []
        for place, name in enumerate(names):
            counts = {key: int(values[place]) for key, values in self.counts.items()}
            if any(counts.values()):
                entries.append({"name": name, **counts, **rates(counts, counts["relabelled_to"])})
        return entries

    def images(self) -> dict[str, Any]:
        """Reviewed, unchanged, and the edits an image took."""
        edits = np.frombuffer(self.edits, np.int32)
        return {
            "reviewed": len(edits),
            "unchanged": int(np.count_nonzero(edits == 0)),
            "edits_mean": float(edits.mean()),
            "edits_median": float(np.median(edits)),
            "edits_max": int(edits.max()),
        }


def rates(counts: dict[str, int], relabelled_to: int) -> dict[str, Any]:
    """`left`, the number of boxes in the end; precision and recall of the run by them: a box of the
    right class is right, even if it had to be moved.
    """
    right = counts["kept"] + counts["moved"]
    left = right + relabelled_to + counts["added"]
    return {
        "left": left,
        "precision": right / counts["shown"] if counts["shown"] else None,
        "recall": right / left if left else None,
    }


def effort(totals: dict[str, Any], seconds: Effort) -> dict[str, float]:
    """Minutes with the run's boxes and without: each shown box takes a look, in which it is also
    relabelled or deleted; a moved one takes as long as one that is drawn.
    """
    drawn = totals["moved"] + totals["added"]
    took = (totals["shown"] * seconds.look + drawn * seconds.box) / 60
    without = totals["left"] * seconds.box / 60
    return {
        "seconds_per_box": seconds.box,
        "seconds_per_look": seconds.look,
        "minutes_without": without,
        "minutes_with": took,
        "minutes_saved": without - took,
    }
