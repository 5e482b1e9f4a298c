"""How a rate is taken."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

from pipeline.bench.throughput import throughput


def test_a_pass_is_whole_whoever_does_it() -> None:
    done: list[list[int]] = []

    def forward(batch: list[int]) -> list[int]:
        done.append(batch)
        return batch

    batches = [[1], [2, 3], [4]]
    threads = [ThreadPoolExecutor(1) for _ in range(2)]
    assert throughput(forward, itertools.cycle(batches), len(batches), 0, threads, "cpu") > 0
    assert sorted(done) == batches
