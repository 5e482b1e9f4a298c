"""Decoded images, the same way for whatever is measured."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from pipeline.config import Config
from pipeline.images.decode import decode, read_header

BATCHES_AHEAD = 4
Batch = list[int]


class Feed:
    """Encoded images, decoded on threads and a few batches ahead of their use.

    Args:
        encoded: the images.
        threads: that decode.
    """

    def __init__(self, encoded: Sequence[bytes], threads: int) -> None:
        self.encoded = encoded
        self.decoders = ThreadPoolExecutor(threads)

    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each image."""
        headers = [read_header(data, Config.max_pixels) for data in self.encoded]
        return [(header.height, header.width) for header in headers]

    def __call__(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, list[np.ndarray]]]:
        """Each batch, places in `encoded`, with its images [height, width, 3] RGB uint8."""
        ahead: deque[tuple[Batch, list[Future[np.ndarray]]]] = deque()
        try:
            for batch in batches:
                ahead.append((batch, [self.decoders.submit(self._decode, i) for i in batch]))
                if len(ahead) > BATCHES_AHEAD:
                    yield _waited(*ahead.popleft())
            while ahead:
                yield _waited(*ahead.popleft())
        finally:
            for _, futures in ahead:
                for future in futures:
                    future.cancel()

    def _decode(self, place: int) -> np.ndarray:
        return decode(read_header(self.encoded[place], Config.max_pixels))


def _waited(batch: Batch, futures: list[Future[np.ndarray]]) -> tuple[Batch, list[np.ndarray]]:
    return batch, [future.result() for future in futures]


def in_order(number: int, size: int) -> list[Batch]:
    """Batches of so many images as they come."""
    return [list(range(first, min(first + size, number))) for first in range(0, number, size)]


def bucketed(shapes: Sequence[tuple[int, int]], size: int) -> list[Batch]:
    """Batches of equal padded shape, each where its last image comes."""
    batches: list[Batch] = []
    open_ones: dict[tuple[int, int], Batch] = {}
    for place, shape in enumerate(shapes):
        batch = open_ones.setdefault(shape, [])
        batch.append(place)
        if len(batch) == size:
            batches.append(open_ones.pop(shape))
    return [*batches, *open_ones.values()]
