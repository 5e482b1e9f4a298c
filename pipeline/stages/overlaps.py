"""Which boxes of very many lie near which others, without asking all pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

# pairs at once; a few arrays of so many numbers are what it costs in memory
PAIRS = 100_000


def common(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[N, 4] what each two boxes have in common; it has sides below 0 where that is nothing."""
    least = np.maximum(one[:, :2], other[:, :2])
    return np.concatenate((least, np.minimum(one[:, 2:4], other[:, 2:4])), axis=1)


def area(boxes: np.ndarray) -> np.ndarray:
    """[N] of boxes [N, 4] or [N, 5]; 0 of those with a side below 0."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    product: np.ndarray = np.maximum(width, 0) * np.maximum(height, 0)
    return product


def shared_area(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[N] `area(common(one, other))`, without an array between."""
    width = np.minimum(one[:, 2], other[:, 2]) - np.maximum(one[:, 0], other[:, 0])
    height = np.minimum(one[:, 3], other[:, 3]) - np.maximum(one[:, 1], other[:, 1])
    product: np.ndarray = np.maximum(width, 0) * np.maximum(height, 0)
    return product


def neighbours(
    queries: np.ndarray, entries: np.ndarray, least: int, most: float = math.inf
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of a query and an entry of one class, all that overlap and some more.

    Entries whose longer side is of one power of two lie in a grid of cells of that size, each in
    the cell of its upper left corner. A query looks into the cells that it reaches, and those to
    the left of them and above.

    Args:
        queries, entries: [N, 5] and [M, 5] float64 xyxy, with the class.
        least, most: only entries whose power of two is at least and at most so many above that of
            the query.

    Yields:
        Places in queries and in entries, [P] int64 each; each pair once.
    """
    powers, wanted = _powers(entries), _powers(queries)
    for power in np.unique(powers):
        here = np.flatnonzero(powers == power)
        asking = np.flatnonzero((wanted + least <= power) & (power <= wanted + most))
        for i, j in _in_grid(queries[asking], entries[here], 2.0**power):
            yield asking[i], here[j]


def _powers(boxes: np.ndarray) -> np.ndarray:
    """[N] float64, the least power of two, from 0 on, that is as long as the longer side."""
    sides = (boxes[:, 2:4] - boxes[:, :2]).max(axis=1, initial=1)
    powers: np.ndarray = np.ceil(np.log2(np.maximum(sides, 1)))
    return powers


def _in_grid(
    queries: np.ndarray, entries: np.ndarray, side: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pairs among entries that are no longer than a cell."""
    if not len(queries):
        return
    x, y = (np.floor(entries[:, axis] / side).astype(np.int64) for axis in (0, 1))
    left, top = (np.floor(queries[:, axis] / side).astype(np.int64) - 1 for axis in (0, 1))
    right, bottom = (np.floor(queries[:, axis] / side).astype(np.int64) for axis in (2, 3))
    # a cell's number; that of the next one in its row is higher by 1
    columns, rows = max(x.max(), right.max()) + 2, max(y.max(), bottom.max()) + 2

    def number(group: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        cell: np.ndarray = (group.astype(np.int64) * rows + row + 1) * columns + column + 1
        return cell

    cells = number(entries[:, 4], y, x)
    order = np.argsort(cells, kind="stable")
    cells = cells[order]
    # in an order in which one search ends where the next one begins
    asking = np.argsort(number(queries[:, 4], top, left), kind="stable")
    which, nth = _repeated((bottom - top + 1)[asking])
    query = asking[which]
    group, row = queries[query, 4], top[query] + nth
    first = np.searchsorted(cells, number(group, row, left[query]))
    last = np.searchsorted(cells, number(group, row, right[query]), side="right")
    counts = last - first
    ends = np.cumsum(counts)
    start = 0
    while start < len(query):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + PAIRS, side="right")))
        which, nth = _repeated(counts[start:stop])
        yield query[start:stop][which], order[first[start:stop][which] + nth]
        start = stop


def _repeated(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each place as often as its count says, and the how-manieth time that is, from 0 on."""
    which = np.repeat(np.arange(len(counts)), counts)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
