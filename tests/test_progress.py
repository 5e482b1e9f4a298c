"""What a person reads while a run goes on."""

from __future__ import annotations

import time

import pytest
import ray

from pipeline.progress import Progress, Reporter, duration, start_counters


@pytest.mark.parametrize(
    "seconds,text",
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (189, "3 min 9 s"), (18_725, "5 h 12 min"),
     (183_600, "2 d 3 h")],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line(cluster: None) -> None:
    reporter = Reporter(None, images=9000, finished=1000)
    assert reporter.line().endswith("starting, 0 errors")
    reporter.sums = {"images": 200, "errors": 1}
    reporter.started = time.monotonic() - 10
    line = reporter.line()
    assert line.startswith("1,200 of 9,000 images (13 %), 20.0 images/s, 6 min ")
    assert line.endswith(" left, 1 error")


def test_sums_of_several_processes(cluster: None) -> None:
    counters = start_counters()
    for progress in (Progress(counters), Progress(counters)):
        for _ in range(100):
            progress.add(images=1, seconds_fetch=0.5)
        progress.flush()
    with Reporter(counters, 200, 0) as reporter:
        pass
    assert reporter.sums == {"images": 200, "seconds_fetch": 100}
    ray.kill(counters)
    with Reporter(counters, 200, 0):  # nobody counts, nobody minds
        pass
    progress.dismiss()
