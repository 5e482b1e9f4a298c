"""The boxes of an image from those of its views, by the rule that `merging` states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.images import tiling
from pipeline.network.contract import Boxes
from pipeline.stages.merging import merged
from pipeline.stages.overlaps import neighbours

# two tiles, 0 to 100 and 80 to 180, and the whole of both
PAIR = tiling.views(100, 180, 100, 0.2)
Given = Sequence[tuple[float, ...]]


def found(*boxes: tuple[float, ...]) -> Boxes:
    """Of x0, y0, x1, y1, score and, if it is not 1, the label."""
    values = np.array([(*box, 1)[:6] for box in boxes], np.float32).reshape(-1, 6)
    return Boxes(values[:, :4], values[:, 5].astype(np.int64), values[:, 4])


def in_pair(whole: Given = (), left: Given = (), right: Given = ()) -> list[list[float]]:
    """What is merged of boxes in pixels of the image, rounded: x0, y0, x1, y1, score, label."""
    moved = [(x0 - 80, y0, x1 - 80, y1, *rest) for x0, y0, x1, y1, *rest in right]
    boxes = merged([found(*whole), found(*left), found(*moved)], PAIR)
    rows = np.column_stack((boxes.xyxy, boxes.scores, boxes.labels))
    return [[round(value, 2) for value in row] for row in rows.tolist()]


def test_an_object_that_both_tiles_show_is_one() -> None:
    assert in_pair(left=[(82, 10, 95, 30, 0.8)], right=[(83, 10, 95, 31, 0.9)]) == [
        [83, 10, 95, 31, 0.9, 1]
    ]


def test_a_piece_goes_if_the_object_is_there() -> None:
    """However good the piece is."""
    assert in_pair(left=[(85, 10, 100, 30, 0.9)], right=[(85, 10, 120, 30, 0.6)]) == [
        [85, 10, 120, 30, 0.6, 1]
    ]
    other = in_pair(left=[(85, 10, 100, 30, 0.9, 2)], right=[(85, 10, 120, 30, 0.6)])
    assert [box[5] for box in other] == [2, 1]


def test_pieces_of_one_object_are_joined() -> None:
    assert in_pair(left=[(40, 10, 100, 30, 0.7)], right=[(80, 11, 130, 32, 0.9)]) == [
        [40, 10, 130, 32, 0.9, 1]
    ]


@pytest.mark.parametrize(
    "right",
    [
        (80, 50, 130, 70, 0.9),  # they do not agree on what both tiles show
        (80, 10, 130, 30, 0.9, 2),  # another class
        (80, 10, 99, 30, 0.9),  # it does not go on where the other one is cut
    ],
)
def test_pieces_of_two_objects_are_not(right: tuple[float, ...]) -> None:
    assert len(in_pair(left=[(40, 10, 100, 30, 0.7)], right=[right])) == 2


def test_of_the_whole_image_only_large_boxes_count() -> None:
    assert in_pair(whole=[(10, 10, 60, 30, 0.9)]) == []
    assert in_pair(whole=[(10, 10, 61, 30, 0.9)]) == [[10, 10, 61, 30, 0.9, 1]]
    # an object that is larger than a tile, and its pieces
    large = (5, 5, 170, 90, 0.6)
    pieces = {"left": [(5, 5, 100, 90, 0.9)], "right": [(80, 5, 170, 90, 0.9)]}
    assert in_pair(whole=[large], **pieces) == [[*large, 1]]
    assert in_pair(**pieces) == [[5, 5, 170, 90, 0.9, 1]]


def test_what_one_view_holds_stays() -> None:
    """The network has decided it, by a threshold of its own."""
    crowd = [(10, 10, 30, 30, 0.9), (12, 10, 32, 30, 0.8)]
    assert len(in_pair(left=crowd)) == 2


def test_the_order_is_by_score_then_by_view() -> None:
    left, right = [(5, 5, 15, 15, 0.5), (25, 5, 35, 15, 0.5)], [(150, 5, 160, 15, 0.5)]
    assert [box[0] for box in in_pair(left=left, right=[*right, (130, 5, 140, 15, 0.6)])] == [
        *(130, 5, 25, 150)
    ]


def test_nothing_found_is_nothing() -> None:
    boxes = merged([found()] * 3, PAIR)
    assert boxes.xyxy.shape == (0, 4) and boxes.xyxy.dtype == np.float32
    assert boxes.labels.dtype == np.int64 and boxes.scores.dtype == np.float32


# ------------------------------------------------------------------ all pairs, one after the other


def common(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])]


def area(a: Sequence[float]) -> float:
    return max(0.0, a[2] - a[0]) * max(0.0, a[3] - a[1])


def agree(a: Sequence[float], b: Sequence[float]) -> bool:
    shared = area(common(a, b))
    return shared > 0.5 * (area(a) + area(b) - shared)


class Box:
    """One of them, with what `merging` knows of it."""

    def __init__(self, view: int, shown: list[int], all_of_it: list[int], box: list[float]) -> None:
        *xyxy, self.score, self.label = box
        self.view, self.shown = view, shown
        self.xyxy = [value + shown[k % 2] for k, value in enumerate(xyxy)]
        self.side = max(xyxy[2] - xyxy[0], xyxy[3] - xyxy[1])
        near = max(1.0, 0.02 * self.side)
        self.cut = [
            shown[k] != all_of_it[k] and abs(self.xyxy[k] - shown[k]) <= near for k in range(4)
        ]

    def goes_on(self, other: Box) -> bool:
        """Whether it reaches beyond a side that cuts the other one."""
        before = [self.xyxy[k] < other.shown[k] - 1 for k in (0, 1)]
        beyond = [self.xyxy[k] > other.shown[k] + 1 for k in (2, 3)]
        return any(a and b for a, b in zip(before + beyond, other.cut, strict=True))

    def same_object(self, other: Box) -> bool:
        shown = common(self.shown, other.shown)
        if self.label != other.label or self.view == other.view:
            return False
        both = self.goes_on(other) and other.goes_on(self)
        return both and agree(common(self.xyxy, shown), common(other.xyxy, shown))


def by_all_pairs(parts: Sequence[Boxes], views: np.ndarray) -> list[Box]:
    places = views.tolist()
    boxes = [
        Box(number, places[number], places[0], [*xyxy, score, label])
        for number, part in enumerate(parts)
        for xyxy, score, label in zip(
            part.xyxy.tolist(), part.scores.tolist(), part.labels.tolist(), strict=True
        )
    ]
    tile = max(places[1][2] - places[1][0], places[1][3] - places[1][1])
    boxes = [box for box in boxes if box.view or box.side > tile / 2]
    boxes.sort(key=lambda box: -box.score)
    whole = [box for box in boxes if not any(box.cut)]
    pieces = [
        piece
        for piece in boxes
        if any(piece.cut)
        and not any(
            w.label == piece.label and area(common(piece.xyxy, w.xyxy)) > 0.5 * area(piece.xyxy)
            for w in whole
        )
    ]
    while pieces:
        group = [pieces.pop(0)]
        for member in group:
            more = [piece for piece in pieces if piece.same_object(member)]
            pieces = [piece for piece in pieces if piece not in more]
            group += more
        first = group[0]
        for k, of in enumerate((min, min, max, max)):
            first.xyxy[k] = of(member.xyxy[k] for member in group)
        first.score = max(member.score for member in group)
        first.view = first.view if len(group) == 1 else -len(pieces) - 1
        whole.append(first)
    kept: list[Box] = []
    for box in sorted(whole, key=lambda box: -box.score):
        if not any(
            k.label == box.label and k.view != box.view and agree(k.xyxy, box.xyxy) for k in kept
        ):
            kept.append(box)
    return kept


def random_parts(random: np.random.Generator, views: np.ndarray, objects: int) -> list[Boxes]:
    """What a network would find of objects of all sizes: clipped to the view, a little off."""
    height, width = views[0, 3], views[0, 2]
    middle = random.uniform(0, (width, height), (objects, 2))
    half = random.uniform(3, 70, (objects, 2)) * random.choice((0.3, 1.0, 2.0), (objects, 1))
    xyxy, labels = np.hstack((middle - half, middle + half)), random.integers(1, 3, objects)
    parts = []
    for x0, y0, x1, y1 in views:
        off = xyxy + random.normal(0, 2, xyxy.shape)
        off = (off - (x0, y0, x0, y0)).clip(0, np.tile((x1 - x0, y1 - y0), 2))
        seen = ((off[:, 2:] - off[:, :2]) > 3).all(1) & (random.random(objects) < 0.9)
        scores = random.permutation(np.arange(1, objects + 1) / objects)
        best = np.argsort(-scores[seen])
        chosen = np.flatnonzero(seen)[best]
        parts.append(
            Boxes(
                off[chosen].astype(np.float32),
                labels[chosen],
                scores[chosen].astype(np.float32),
            )
        )
    return parts


def test_as_by_all_pairs() -> None:
    random = np.random.default_rng(0)
    joined = 0
    for case in range(60):
        height, width = (int(side) for side in random.integers(90, 400, 2))
        views = tiling.views(height, width, 100, random.uniform(0, 0.6))
        if len(views) == 1:
            continue
        parts = random_parts(random, views, 40)
        boxes = merged(parts, views)
        expected = by_all_pairs(parts, views)
        assert boxes.scores.tolist() == pytest.approx([box.score for box in expected]), case
        ours = np.column_stack((boxes.xyxy, boxes.labels))
        theirs = np.array([[*box.xyxy, box.label] for box in expected])
        order, same = (np.lexsort((*x.T, -boxes.scores)) for x in (ours, theirs))
        np.testing.assert_allclose(ours[order], theirs[same], atol=1e-3, err_msg=str(case))
        joined += sum(box.view < 0 for box in expected)
    assert joined > 30


@pytest.mark.parametrize("least,most", [(-1, 1), (0, np.inf), (-1, np.inf)])
def test_neighbours_are_all_that_overlap(least: int, most: float) -> None:
    random = np.random.default_rng(1)
    corner, size = random.uniform(0, 300, (2, 200, 2)), 2.0 ** random.uniform(-1, 8, (200, 2))
    boxes = np.hstack((corner[0], corner[0] + size, random.integers(1, 3, (200, 1))))
    chunks = list(neighbours(boxes, boxes, least, most))
    pairs = [(int(i), int(j)) for chunk in chunks for i, j in zip(*chunk, strict=True)]
    seen = set(pairs)
    assert len(pairs) == len(seen) < 200 * 200 / 2
    powers = [np.ceil(np.log2(max(1, *sides))) for sides in size.tolist()]
    for i in range(200):
        for j in range(200):
            asked = least <= powers[j] - powers[i] <= most and boxes[i, 4] == boxes[j, 4]
            if asked and area(common(boxes[i], boxes[j])) > 0:
                assert (i, j) in seen
