"""Images a second of a forward that is called by as many threads as it gains from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.bench import device


def workers(forward: Any) -> list[ThreadPoolExecutor]:
    """As many threads as a forward gains from, each its own.

    Always the same ones call it, for cuDNN plans its kernels anew for each thread that asks.
    """
    return [ThreadPoolExecutor(1) for _ in range(getattr(forward, "in_flight", 1))]


def throughput(
    forward: Callable[[Any], Any],
    batches: Iterator[Any],
    whole: int,
    seconds: float,
    threads: Sequence[ThreadPoolExecutor],
    where: str,
) -> float:
    """Images a second over whole passes.

    Args:
        forward: takes a batch and returns something for each of its images.
        batches: without end; each is asked for by one thread at a time.
        whole: batches of one pass; it ends with one.
        seconds: that it takes at least.
        threads: that call it at once, see `workers`.
        where: `cuda` or `cpu`.
    """
    lock, started, given = threading.Lock(), time.perf_counter(), 0

    def take() -> Any:
        nonlocal given
        with lock:
            over = time.perf_counter() - started >= seconds
            if given and given % whole == 0 and over:
                return None
            given += 1
            return next(batches)

    def work() -> int:
        count = 0
        while (batch := take()) is not None:
            count += len(forward(batch))
        return count

    counts = [working.result() for working in [thread.submit(work) for thread in threads]]
    device.synchronize(where)
    return sum(counts) / (time.perf_counter() - started)
