"""The boxes of an image from those of its views: no object twice, none in pieces.

As in SAHI (Akyon et al. 2022, https://arxiv.org/abs/2202.06934), an image is the whole of it and
overlapping tiles. SAHI merges whatever overlaps by more than half of the smaller box. Here only
what a border cuts is merged, since neighbours in a crowd overlap, too:

1. Of the whole image only boxes longer than half a tile count. Smaller objects are shown by tiles,
   in which they are larger.
2. A box that ends where its tile does, inside the image, is a piece. A piece goes if a box that is
   none covers more than half of it.
3. Pieces from two tiles are joined if each goes on beyond where the other is cut, and if in what
   both tiles show their IoU is above 0.5. The score is the best one's.
4. Of what is left, non-maximum suppression keeps the better of two boxes from different views whose
   IoU is above 0.5. What one view holds has been through the network's own.

All of that is by class. Of equal scores, boxes that are no pieces come first, then those of earlier
views.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.network.contract import Boxes
from pipeline.stages.overlaps import area, common, neighbours, shared_area

MATCH = 0.5
LARGE = 0.5
# how near a border, as a share of its longer side and in pixels, a box ends there: a network does
# not place it exactly
NEAR, NEAR_PIXELS = 0.02, 1.0
# boxes that are decided together at first; each time twice as many
BLOCK = 1024


@dataclass(frozen=True)
class Found:
    """Boxes from several views, best first.

    Attributes:
        boxes: [N, 5] float64 xyxy in pixels of the image, and the class.
        scores: [N] float32.
        view: [N] int64, which one it comes from; of a joined one, a number of its own below 0.
        shown: [N, 4] float64 x0, y0, x1, y1 of that view.
        cut: [N, 4] bool, whether it ends with its view on that side, inside the image.
    """

    boxes: np.ndarray
    scores: np.ndarray
    view: np.ndarray
    shown: np.ndarray
    cut: np.ndarray

    def __getitem__(self, which: np.ndarray) -> Found:
        return Found(*(values[which] for values in vars(self).values()))


def merged(parts: Sequence[Boxes], views: np.ndarray) -> Boxes:
    """What an image holds.

    Args:
        parts: the boxes of each view, in pixels of the view.
        views: [N, 4] x0, y0, x1, y1 in pixels of the image; the first one is all of it.

    Returns:
        Boxes in pixels of the image; as many as there are.
    """
    found = _gathered(parts, views)
    is_piece = np.asarray(found.cut.any(axis=1))
    whole, pieces = found[~is_piece], found[is_piece]
    whole = _together(whole, _joined(pieces[~_covered(pieces, whole)]))
    kept = whole[_kept(whole)]
    return Boxes(
        xyxy=kept.boxes[:, :4].astype(np.float32),
        labels=kept.boxes[:, 4].astype(np.int64),
        scores=kept.scores,
    )


def _gathered(parts: Sequence[Boxes], views: np.ndarray) -> Found:
    view = np.repeat(np.arange(len(views)), [len(part.labels) for part in parts])
    shown = views.astype(float)
    xyxy = np.concatenate([part.xyxy for part in parts]) + shown[view][:, [0, 1, 0, 1]]
    labels = np.concatenate([part.labels for part in parts]).astype(float)
    sides = (xyxy[:, 2:] - xyxy[:, :2]).max(axis=1, initial=0)
    near = np.maximum(NEAR_PIXELS, NEAR * sides)[:, None]
    inside = (shown != shown[0])[view]
    found = Found(
        boxes=np.concatenate((xyxy, labels[:, None]), axis=1),
        scores=np.concatenate([part.scores for part in parts]),
        view=view,
        shown=shown[view],
        cut=inside & (abs(xyxy - shown[view]) <= near),
    )
    tile = (shown[1:, 2:] - shown[1:, :2]).max()
    counts = np.flatnonzero((view > 0) | (sides > LARGE * tile))
    return _sorted(found[counts])


def _sorted(found: Found) -> Found:
    return found[np.argsort(-found.scores, kind="stable")]


def _together(one: Found, other: Found) -> Found:
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return _sorted(Found(*(np.concatenate(pair) for pair in pairs)))


def _covered(pieces: Found, whole: Found) -> np.ndarray:
    """[N] bool, of each piece, whether a box that is none covers more than half of it."""
    covered = np.zeros(len(pieces.scores), bool)
    # what covers half of a box is at least half as long
    enough = MATCH * area(pieces.boxes)
    for i, j in neighbours(pieces.boxes, whole.boxes, least=-1):
        covered[i[shared_area(pieces.boxes[i], whole.boxes[j]) > enough[i]]] = True
    return covered


def _joined(pieces: Found) -> Found:
    """The pieces of an object as one box; one that belongs to no other one stays as it is."""
    links = [np.empty((2, 0), np.int64)]
    for i, j in neighbours(pieces.boxes, pieces.boxes, least=0):
        links.append(np.stack((i, j))[:, _are_of_one(pieces[i], pieces[j])])
    i, j = np.concatenate(links, axis=1)
    if not len(i):
        return pieces
    count = len(pieces.scores)
    graph = coo_array((np.ones(len(i), bool), (i, j)), shape=(count, count))
    _, of = connected_components(graph, directed=False)
    order = np.argsort(of, kind="stable")  # within an object the best one stays first
    starts = np.flatnonzero(np.diff(of[order], prepend=-1))
    joined = pieces[order[starts]]
    several = np.diff(starts, append=count) > 1
    for reduce, sides in ((np.minimum, slice(0, 2)), (np.maximum, slice(2, 4))):
        joined.boxes[:, sides] = reduce.reduceat(pieces.boxes[order, sides], starts)
    joined.view[several] = -1 - np.flatnonzero(several)
    return joined


def _are_of_one(one: Found, other: Found) -> np.ndarray:
    """[N] bool, of pairs of pieces, whether each goes on where the other is cut, and both agree on
    what both views show.
    """
    shown = common(one.shown, other.shown)
    a, b = (common(found.boxes, shown) for found in (one, other))
    shared = shared_area(a, b)
    agree: np.ndarray = shared > MATCH * (area(a) + area(b) - shared)
    agree &= _goes_on(one, other) & _goes_on(other, one) & (one.view != other.view)
    return agree


def _goes_on(one: Found, other: Found) -> np.ndarray:
    """[N] bool, whether the other one reaches beyond a side on which a view cuts the first."""
    before = other.boxes[:, :2] < one.shown[:, :2] - NEAR_PIXELS
    beyond = other.boxes[:, 2:4] > one.shown[:, 2:] + NEAR_PIXELS
    found: np.ndarray = (np.concatenate((before, beyond), axis=1) & one.cut).any(axis=1)
    return found


def _kept(found: Found) -> np.ndarray:
    """[N] bool, what greedy non-maximum suppression keeps.

    Blocks of boxes are decided one after the other, and what they suppress is never asked about.
    """
    count, start, size = len(found.scores), 0, BLOCK
    alive = np.ones(count, bool)
    while start < count:
        block = start + np.flatnonzero(alive[start : start + size])
        alive[block] = _best(found[block])
        block = block[alive[block]]
        start, size = start + size, 2 * size
        later = start + np.flatnonzero(alive[start:])
        for _, j in _overlapping(found[block], found[later]):
            alive[later[j]] = False
    return alive


def _best(found: Found) -> np.ndarray:
    """The same, of boxes few enough to hold all pairs that overlap.

    A box stays if no better one that stays overlaps it. Asked of all again and again, that settles
    the best one, then at least one more each time.
    """
    pairs = [np.empty((2, 0), np.int64)]
    for i, j in _overlapping(found, found):
        pairs.append(np.stack((i, j))[:, i < j])
    better, worse = np.concatenate(pairs, axis=1)
    kept = np.ones(len(found.scores), bool)
    while True:
        before, kept = kept, np.ones_like(kept)
        kept[worse[before[better]]] = False
        if (kept == before).all():
            return kept


def _overlapping(one: Found, other: Found) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places of boxes from different views whose IoU is above 0.5."""
    areas = area(one.boxes), area(other.boxes)
    # of which neither is twice as long as the other
    for i, j in neighbours(one.boxes, other.boxes, least=-1, most=1):
        shared = shared_area(one.boxes[i], other.boxes[j])
        same = shared > MATCH * (areas[0][i] + areas[1][j] - shared)
        same &= one.view[i] != other.view[j]
        yield i[same], j[same]
