"""Work that is done while whoever wants it is busy with what came before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(
    work: Callable[[T], R], items: Iterable[T], at_once: int
) -> Iterator[tuple[T, Future[R]]]:
    """Each item in order with what is made of it, in a thread for each of so many at once."""
    # from Python 3.14 on Executor.map(buffersize=...) is all of this
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(at_once) as pool:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= at_once:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
