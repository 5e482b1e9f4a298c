"""The pairs of boxes, beside a plain loop that takes the best pair first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.labels import pairs
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.diff.pairing import KINDS, Changes, compare

Box = tuple[int, float, tuple[float, float, float, float]]


def batch(*images: Sequence[Box]) -> BoxBatch:
    """Images with boxes of label, score and corners."""
    found = [box for image in images for box in image]
    return BoxBatch(
        ids=np.arange(len(images)),
        uris=[f"{i}.jpg" for i in range(len(images))],
        sizes=np.full((len(images), 2), 100),
        starts=np.concatenate([[0], np.cumsum(list(map(len, images)))]),
        labels=np.array([box[0] for box in found], np.int64),
        scores=np.array([box[1] for box in found], np.float32),
        xyxy=np.array([box[2] for box in found], np.float32).reshape(-1, 4),
    )


def kinds(found: Changes) -> list[tuple[str, int, int]]:
    """Kind and places of each, in order."""
    named = [KINDS[kind] for kind in found.kinds.tolist()]
    return sorted(zip(named, found.a.tolist(), found.b.tolist(), strict=True))


SQUARE, NEAR, FAR = (0, 0, 50, 50), (0, 0, 50, 40), (60, 60, 90, 90)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected", "amount"),
    [
        ((1, 0.9, SQUARE), (1, 0.6, SQUARE), "same", 0.0),
        ((1, 0.9, SQUARE), (1, 0.6, NEAR), "moved", 0.2),
        ((1, 0.9, SQUARE), (2, 0.6, SQUARE), "relabelled", 0.6),
        ((1, 0.9, SQUARE), (1, 0.4, NEAR), "fell", 0.5),
        ((1, 0.1, SQUARE), (1, 0.9, NEAR), "rose", 0.8),
        ((1, 0.9, SQUARE), (2, 0.4, SQUARE), "only_a", 0.9),
        ((1, 0.4, SQUARE), (2, 0.7, SQUARE), "only_b", 0.7),
    ],
)
def test_what_became_of_a_box(ours: Box, theirs: Box, expected: str, amount: float) -> None:
    found = compare(batch([], [ours]), batch([], [theirs]), 0.5)
    assert [KINDS[kind] for kind in found.kinds] == [expected]
    assert found.images.tolist() == [1]
    assert found.amounts.tolist() == pytest.approx([amount])


def test_what_counts_on_neither_side_is_nothing() -> None:
    low = [(1, 0.4, SQUARE), (1, 0.3, FAR)]
    assert kinds(compare(batch(low), batch(low[::-1]), 0.5)) == []


def test_far_apart_is_no_pair() -> None:
    found = compare(batch([(1, 0.9, SQUARE)]), batch([(1, 0.9, FAR)]), 0.5)
    assert kinds(found) == [("only_a", 0, -1), ("only_b", -1, 0)]
    assert kinds(compare(batch([(1, 0.9, SQUARE)]), batch([(1, 0.9, NEAR)]), 0.5, 0.9)) == [
        ("only_a", 0, -1),
        ("only_b", -1, 0),
    ]


def test_two_labels_of_one_object_on_both_sides() -> None:
    """The other label has the better IoU, and yet each keeps its own."""
    ours = [(1, 0.9, (0, 0, 100, 100)), (2, 0.8, (0, 0, 100, 98))]
    theirs = [(1, 0.9, (0, 0, 100, 98)), (2, 0.8, (0, 0, 100, 100))]
    found = compare(batch(ours), batch(theirs), 0.5)
    assert kinds(found) == [("same", 0, 0), ("same", 1, 1)]


def test_boxes_of_other_images_are_no_pair() -> None:
    box = (1, 0.9, SQUARE)
    found = compare(batch([box], [], [box]), batch([], [box], [box]), 0.5)
    assert kinds(found) == [("only_a", 0, -1), ("only_b", -1, 0), ("same", 1, 1)]
    assert sorted(found.images.tolist()) == [0, 1, 2]


def crowded(random: np.random.Generator, counts: list[int]) -> BoxBatch:
    images = []
    for count in counts:
        low = random.integers(0, 30, (count, 2))
        corners = np.concatenate([low, low + random.integers(20, 50, (count, 2))], 1)
        scores = np.sort(random.uniform(0, 1, count))[::-1]
        labels = random.integers(1, 4, count)
        images.append(list(zip(labels.tolist(), scores.tolist(), corners.tolist(), strict=True)))
    return batch(*images)


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return float(np.float32(common) / np.float32(sum(areas) - common))


def plainly(a: BoxBatch, b: BoxBatch, threshold: float) -> list[tuple[str, int, int]]:
    """The definition, pair by pair."""
    owners = a.owners, b.owners
    rated = []
    for i, j in itertools.product(range(len(a.labels)), range(len(b.labels))):
        if owners[0][i] != owners[1][j]:
            continue
        iou = overlap(a.xyxy[i].tolist(), b.xyxy[j].tolist())
        alike = a.labels[i] == b.labels[j]
        shown = int(a.scores[i] >= threshold) + int(b.scores[j] >= threshold)
        if iou >= 0.5 and (shown == 2 or (shown == 1 and alike)):
            rated.append((-shown, not (alike and iou >= 0.95), -iou, not alike, i, j))
    free_a = {i for i in range(len(a.labels)) if a.scores[i] >= threshold}
    free_b = {j for j in range(len(b.labels)) if b.scores[j] >= threshold}
    taken_a: set[int] = set()
    taken_b: set[int] = set()
    found = []
    for shown, _, iou, other, i, j in sorted(rated):
        if i in taken_a or j in taken_b:
            continue
        taken_a.add(i)
        taken_b.add(j)
        kind = "relabelled" if other else "same" if -iou >= 0.95 else "moved"
        if shown == -1:
            kind = "fell" if i in free_a else "rose"
        found.append((kind, i, j))
    found += [("only_a", i, -1) for i in free_a - taken_a]
    return sorted(found + [("only_b", -1, j) for j in free_b - taken_b])


@pytest.mark.parametrize("at_once", [pairs.AT_ONCE, 30])
@pytest.mark.parametrize("seed", range(4))
def test_as_a_plain_loop(seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs.enumerated, "__defaults__", (at_once,))
    random = np.random.default_rng(seed)
    a, b = crowded(random, [0, 25, 3, 0, 40, 1]), crowded(random, [5, 30, 0, 0, 30, 2])
    expected = plainly(a, b, 0.4)
    assert kinds(compare(a, b, 0.4)) == expected
    assert {kind for kind, _, _ in expected} >= {*KINDS[1:]}
