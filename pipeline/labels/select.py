"""The images of a run that are most worth a person's look, unlike one another."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.errors import UsageError, nearest
from pipeline.labels import boxes
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.classes import Classes
from pipeline.labels.output import Output
from pipeline.labels.value import DEFAULT_WEIGHTS, Values, measure, scaled

THRESHOLD = 0.5
DIVERSITY = 0.5
GRID = 4
# of the random projection; inner products of unit vectors keep within about 0.1
DIMENSIONS = 128
CANDIDATES = 20
# images described before they are projected: 17 numbers a class each
AT_ONCE = 256

REASONS = {
    "uncertainty": "about {:.1f} corrections expected",
    "disagreement": "classes disagree about one place ({:.2f})",
    "crowding": "crowded: {:.0f} objects",
}

LIST = pa.schema(
    [
        ("rank", pa.int64()),
        ("image_id", pa.int64()),
        ("image_uri", pa.string()),
        ("value", pa.float32()),
        ("gain", pa.float32()),
        *((name, pa.float32()) for name in DEFAULT_WEIGHTS),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class Selection:
    """The outcome.

    Attributes:
        rows: table of the schema `LIST`, by rank, which is by `gain`: the value less what an image
            chosen before already shows.
        images: number of images it was chosen from.
    """

    rows: pa.Table
    images: int


def select(
    output: Output,
    classes: Classes,
    budget: int,
    threshold: float = THRESHOLD,
    diversity: float = DIVERSITY,
    weights: Mapping[str, float] | None = None,
) -> Selection:
    """
    Args:
        output: the run's.
        classes: which detections count, with thresholds of 0.
        budget: number of images wanted.
        threshold: score from which on detections are taken for right.
        diversity: 0 ranks by value alone; 1 gives an image like one chosen before no value.
        weights: of the parts of the value, by the names of `DEFAULT_WEIGHTS`.

    Raises:
        UsageError: a value that makes no sense, or no image that the network ran on.
    """
    wanted = _checked(budget, threshold, diversity, weights or {})
    if not output.counts["ok"]:
        raise UsageError(f"every image of {output.url} failed: there is nothing to select")
    values = measure(output, classes, threshold)
    total = values.total(wanted)
    # stable, so that the same output gives the same list
    order = np.argsort(-total, kind="stable")[: max(1000, CANDIDATES * budget)]
    candidates = np.sort(order)
    uris, features = _features(output, classes, values, candidates, threshold)
    chosen, gains = greedy(total[candidates], features, budget, diversity)
    places = candidates[chosen]
    columns = {
        "rank": np.arange(1, len(places) + 1),
        "image_id": values.ids[places],
        "image_uri": [uris[place] for place in chosen],
        "value": total[places],
        "gain": gains,
        **{name: part[places] for name, part in values.parts.items()},
        "reason": _reasons(values, classes, wanted, places),
    }
    rows = pa.table([pa.array(columns[name]) for name in LIST.names], schema=LIST)
    return Selection(rows, len(values.ids))


def _checked(
    budget: int, threshold: float, diversity: float, weights: Mapping[str, float]
) -> dict[str, float]:
    if budget < 1:
        raise UsageError(f"--budget must be a whole number above 0, not {budget}")
    for name, value in (("score-threshold", threshold), ("diversity", diversity)):
        if not 0 <= value <= 1:
            raise UsageError(f"--{name} must be within 0 and 1, not {value:g}")
    for name, value in weights.items():
        if name not in DEFAULT_WEIGHTS:
            raise UsageError(f"--weight has an unknown name {nearest(name, DEFAULT_WEIGHTS)}")
        if not 0 <= value < float("inf"):
            raise UsageError(f"--weight {name} must be 0 or more, not {value:g}")
    return DEFAULT_WEIGHTS | dict(weights)


def _features(
    output: Output,
    classes: Classes,
    values: Values,
    candidates: np.ndarray,
    threshold: float,
) -> tuple[list[str], np.ndarray]:
    """URIs and features ([candidates, DIMENSIONS] float32, of length 1 or 0) of candidates."""
    ids = values.ids[candidates]
    random = np.random.default_rng(0)
    shape = (len(classes.names) * (GRID * GRID + 1), DIMENSIONS)
    projection = random.normal(size=shape).astype(np.float32)
    weights = np.log1p(len(values.ids) / np.maximum(values.frequencies, 1))
    uris: list[str] = []
    features = np.empty((len(ids), DIMENSIONS), np.float32)
    for table in output.tables(boxes.COLUMNS, ("ok",), task="comparing"):
        table = table.filter(pa.array(np.isin(table["image_id"].to_numpy(), ids)))
        for start in range(0, table.num_rows, AT_ONCE):
            chosen = classes.choose(boxes.from_table(table.slice(start, AT_ONCE)))
            described = describe(chosen, weights, threshold) @ projection
            described /= np.maximum(np.linalg.norm(described, axis=1, keepdims=True), 1e-9)
            features[len(uris) : len(uris) + len(described)] = described
            uris += chosen.uris
    return uris, features


def describe(chosen: BoxBatch, weights: np.ndarray, threshold: float) -> np.ndarray:
    """[n, classes * (GRID * GRID + 1)] float32, what stands where: a histogram of box centres by
    class and cell, and of classes; square roots of sums of scores, rare classes weighted up.
    """
    width = GRID * GRID + 1
    owners = chosen.owners
    centres = (chosen.xyxy[:, :2] + chosen.xyxy[:, 2:]) / 2 / chosen.sizes[owners]
    cells = np.clip((centres * GRID).astype(np.int64), 0, GRID - 1) @ [1, GRID]
    # the doubtful ones count, but less: noise should not make two frames of one scene unlike
    sure = np.where(chosen.scores >= threshold, chosen.scores, chosen.scores * 0.25)
    shape = (len(chosen.ids), len(weights), width)
    base = (owners * len(weights) + chosen.labels) * width
    histogram = np.bincount(base + cells, sure, int(np.prod(shape)))
    histogram += np.bincount(base + width - 1, sure, int(np.prod(shape)))
    described: np.ndarray = np.sqrt(histogram.reshape(shape)) * weights[:, None]
    return described.reshape(len(chosen.ids), -1).astype(np.float32)


def greedy(
    values: np.ndarray, features: np.ndarray, budget: int, diversity: float
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the best ([m] int64), and their gains ([m] float32, falling).

    Each is taken for its value less what one chosen before already shows.

    The gain of an image is its value times (1 - diversity * its largest cosine similarity to one
    chosen before). It can only fall, so it is computed anew only for what stands at the top
    (lazy evaluation: Minoux, Accelerated greedy algorithms, 1978); the result is that of plain
    maximal marginal relevance (Carbonell and Goldstein, 1998).

    Args:
        values: [n] float32, 0 or more.
        features: [n, d] float32, of length 1 or 0.
    """
    similar = np.zeros(len(values), np.float32)
    seen = np.zeros(len(values), np.int64)
    heap = [(-float(value), place) for place, value in enumerate(values)]
    heapq.heapify(heap)
    picked = np.empty((min(budget, len(values)), features.shape[1]), np.float32)
    chosen: list[int] = []
    gains: list[float] = []
    while heap and len(chosen) < budget:
        negative, place = heapq.heappop(heap)
        if seen[place] < len(chosen):
            new = picked[seen[place] : len(chosen)] @ features[place]
            similar[place] = max(similar[place], float(new.max()))
            seen[place] = len(chosen)
            gain = values[place] * (1 - diversity * min(1.0, float(similar[place])))
            heapq.heappush(heap, (-float(gain), place))
            continue
        picked[len(chosen)] = features[place]
        chosen.append(place)
        gains.append(-negative)
    return np.array(chosen, np.int64), np.array(gains, np.float32)


def _reasons(
    values: Values, classes: Classes, weights: dict[str, float], places: np.ndarray
) -> list[str]:
    """For each image the part that speaks most for it, in words."""
    names = list(weights)
    shares = np.stack([weights[name] * scaled(values.parts[name])[places] for name in names])
    reasons = []
    for place, column in zip(places, shares.T, strict=True):
        name = names[int(np.argmax(column))]
        amount = values.parts[name][place]
        rarest = values.rarest[place]
        if not column.any():
            reasons.append("")
        elif name == "rarity":
            seen = f"{values.frequencies[rarest]:,} of {len(values.ids):,} images"
            reasons.append(f"rare: {classes.names[rarest]}, in {seen}")
        else:
            reasons.append(REASONS[name].format(amount))
    return reasons
