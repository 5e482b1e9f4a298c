"""What is read while the caller works on what came before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(read: Callable[[T], R], items: Iterable[T], readers: int) -> Iterator[Future[R]]:
    """What `read` gives of each item, in their order; so many at a time, and no more in memory."""
    # from Python 3.14 on Executor.map(buffersize=...) is all of this
    ahead: deque[Future[R]] = deque()
    with ThreadPoolExecutor(readers) as threads:
        for item in items:
            ahead.append(threads.submit(read, item))
            if len(ahead) >= readers:
                yield ahead.popleft()
        while ahead:
            yield ahead.popleft()
