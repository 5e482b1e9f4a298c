"""What a person's look at an image would be worth, from its detections alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.labels import boxes, pairs
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.classes import Classes
from pipeline.labels.output import Output

DOUBTFUL_IOU = 0.5
# detections of an image that are compared with each other: time grows with the square
MOST_COMPARED = 100
# what counts as a full score is what one image in a hundred reaches
FULL = 0.99
DEFAULT_WEIGHTS = {"uncertainty": 1.0, "disagreement": 1.0, "rarity": 0.25, "crowding": 0.1}


@dataclass(frozen=True)
class Values:
    """The worth of n images; about 40 bytes an image.

    Attributes:
        ids: [n] int64, in ascending order.
        parts: by the names of `DEFAULT_WEIGHTS`, [n] float32.
            uncertainty: corrections to be expected if detections from the threshold on are
                accepted and scores are probabilities: the sum of 1 - score over those accepted
                and of the score over the others.
            disagreement: sum over pairs of detections of different classes in one place (IoU over
                0.5), among the best `MOST_COMPARED`, of the lower score.
            rarity: the largest of score times ln(images / images with that class) over the
                classes accepted in the image.
            crowding: number of detections accepted.
        frequencies: [classes] int64, number of images in which a class is accepted.
        rarest: [n] int32, the class behind `rarity`, -1 for none.
    """

    ids: np.ndarray
    parts: dict[str, np.ndarray]
    frequencies: np.ndarray
    rarest: np.ndarray

    def total(self, weights: dict[str, float]) -> np.ndarray:
        """[n] float32, the weighted sum of the parts, each brought to 0 to 1."""
        total = np.zeros(len(self.ids), np.float32)
        for name, weight in weights.items():
            total += weight * scaled(self.parts[name])
        return total


def scaled(part: np.ndarray) -> np.ndarray:
    """[n] float32 within 0 and 1: relative to what one image in a hundred reaches."""
    positive = part[part > 0]
    full = float(np.quantile(positive, FULL)) if len(positive) else 1.0
    return np.minimum(part / full, 1).astype(np.float32)


def measure(output: Output, classes: Classes, threshold: float) -> Values:
    """Stream the images on which the network ran.

    Args:
        output: the run's.
        classes: which detections count; their scores' thresholds should be 0, for what lies below
            `threshold` tells what may have been missed.
        threshold: score from which on detections are accepted.
    """
    found: list[list[np.ndarray]] = []
    accepted: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    images = 0
    for table in output.tables(boxes.COLUMNS, ("ok",), task="measuring"):
        chosen = classes.choose(boxes.from_table(table))
        kept = chosen.scores >= threshold
        errors = np.where(kept, 1 - chosen.scores, chosen.scores)
        n, owners = len(chosen.ids), chosen.owners
        found.append(
            [
                chosen.ids,
                np.bincount(owners, errors, n).astype(np.float32),
                disagreement(chosen),
                np.bincount(owners[kept], minlength=n).astype(np.float32),
            ]
        )
        accepted.append(_best_of_class(chosen, kept, images, len(classes.names)))
        images += n
    ids, uncertainty, disagreeing, crowding = map(np.concatenate, zip(*found, strict=True))
    image, label, score = map(np.concatenate, zip(*accepted, strict=True))
    frequencies = np.bincount(label, minlength=len(classes.names))
    worth = (score * np.log(images / frequencies[label])).astype(np.float32)
    order = np.lexsort((-worth, image))
    image, firsts = np.unique(image[order], return_index=True)
    rarity, rarest = np.zeros(images, np.float32), np.full(images, -1, np.int32)
    rarity[image], rarest[image] = worth[order][firsts], label[order][firsts]
    parts = {
        "uncertainty": uncertainty,
        "disagreement": disagreeing,
        "rarity": rarity,
        "crowding": crowding,
    }
    return Values(ids, parts, frequencies, rarest)


def _best_of_class(
    chosen: BoxBatch, kept: np.ndarray, first: int, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (counted from `first`), class, and highest score, for each accepted class."""
    keys = chosen.owners[kept] * classes + chosen.labels[kept]
    # scores are sorted within an image, so the first is the highest
    keys, places = np.unique(keys, return_index=True)
    image, label = np.divmod(keys, classes)
    return (first + image).astype(np.int64), label.astype(np.int32), chosen.scores[kept][places]


def disagreement(chosen: BoxBatch) -> np.ndarray:
    """[n] float32, see `Values`."""
    n, owners = len(chosen.ids), chosen.owners
    first = chosen.starts[owners]
    before = np.arange(len(owners)) - first
    sums = np.zeros(n)
    for worse, better in pairs.enumerated(first, np.where(before < MOST_COMPARED, before, 0)):
        doubtful = pairs.ious(chosen.xyxy[better], chosen.xyxy[worse]) > DOUBTFUL_IOU
        worse = worse[doubtful & (chosen.labels[better] != chosen.labels[worse])]
        sums += np.bincount(owners[worse], chosen.scores[worse], n)  # of both scores the lower
    return sums.astype(np.float32)
