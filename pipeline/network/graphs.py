"""A function of tensors, recorded as CUDA graphs: launched whole, without the host in between."""

from __future__ import annotations

import traceback
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# A recording takes some hundredths of a second, and memory for as long as it is kept.
AFTER = 3
MOST = 32

Shapes = tuple[torch.Size, ...]


class Graphs:
    """Calls a function, and for shapes that come up again and again replays what it launched.

    Not thread-safe; all calls are for one stream.

    Args:
        function: of tensors [N, ...] on a GPU, to tensors; launches the same for the same shapes,
            and waits for nothing. For a smaller N than the largest so far nothing is recorded:
            what is left over of a range of images is of any size, and too rarely of the same.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]) -> None:
        self.function = function
        self.recorded: OrderedDict[Shapes, _Recording] = OrderedDict()
        self.calls: Counter[Shapes] = Counter()
        self.largest = 0
        # one is replayed after the other, so they can share what they compute in
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        """What the function gives; to be read, on this stream, before the next call.

        Raises:
            torch.OutOfMemoryError: nothing could be recorded, or the function found no room.
        """
        shapes = tuple(x.shape for x in given)
        self.largest = max(self.largest, len(given[0]))
        if shapes not in self.recorded:
            if len(given[0]) == self.largest:
                self.calls[shapes] += 1
            if self.calls[shapes] < AFTER:
                return self.function(*given)
            if len(self.recorded) == MOST:
                torch.cuda.synchronize()  # the one that goes may still be replayed
                old, _ = self.recorded.popitem(last=False)
                del self.calls[old]
            self.recorded[shapes] = self._recording(given)
        self.recorded.move_to_end(shapes)
        return self.recorded[shapes](*given)

    def _recording(self, given: tuple[Tensor, ...]) -> _Recording:
        try:
            return _Recording(self.function, given, self.pool)
        except torch.AcceleratorError as error:
            # one that runs out of memory can end like this, too; if the device is lost, the next
            # call says so again
            traceback.clear_frames(error.__traceback__)
            raise torch.OutOfMemoryError(str(error)) from error


class _Recording:
    def __init__(
        self, function: Callable[..., tuple[Tensor, ...]], given: tuple[Tensor, ...], pool: Any
    ) -> None:
        self.given = [x.clone() for x in given]
        # what this thread does for the first time may ask for memory, which a recording forbids
        function(*self.given)
        self.graph = torch.cuda.CUDAGraph()
        # other threads go on allocating pinned memory, which is no part of it
        with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
            self.results = function(*self.given)

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        for own, x in zip(self.given, given, strict=True):
            own.copy_(x, non_blocking=True)
        self.graph.replay()
        return self.results
