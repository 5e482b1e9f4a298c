"""How far a run is: counters that every process adds to, and lines for a person to read."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections import Counter
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

log = logging.getLogger(__name__)
SEND_SECONDS = 0.5
LINE_SECONDS = 10.0


class Counters:
    """Actor: the sums of what all processes of a run report, and which of them are actors."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.actors: list[Any] = []

    def join(self, actor: Any) -> None:
        self.actors.append(actor)

    def dismiss(self) -> None:
        """End all actors that have joined."""
        for actor in self.actors:
            ray.kill(actor)
        self.actors = []

    def add(self, amounts: dict[str, float]) -> None:
        self.sums.update(amounts)

    def get(self) -> dict[str, float]:
        return dict(self.sums)


def start_counters() -> Any:
    """The counters of a run, on the driver's node, which lives as long as the run."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(num_cpus=0)(Counters).options(scheduling_strategy=here).remote()


class Progress:
    """One process's side of the counters; it sends at most twice a second. Thread-safe.

    What a killed process had not sent, or a repeated task sent twice, makes these figures
    approximate: they are for looking at, the counts of a finished run come from its files.
    """

    def __init__(self, counters: Any) -> None:
        self.counters = counters
        self._start()

    def _start(self) -> None:
        self.lock = threading.Lock()
        self.waiting: Counter[str] = Counter()
        self.sent = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {"counters": self.counters}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.counters = state["counters"]
        self._start()

    def join(self) -> None:
        """Make this process, an actor, one that ends when its execution does."""
        self.counters.join.remote(ray.get_runtime_context().current_actor)

    def dismiss(self) -> None:
        """End the actors of an execution.

        Left to itself, Ray Data ends them when Python has freed the last reference to the
        execution. For one that failed that can be never, and their CPUs are held until then.
        """
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self.counters.dismiss.remote())

    def add(self, **amounts: float) -> None:
        with self.lock:
            self.waiting.update(amounts)
            due = time.monotonic() - self.sent > SEND_SECONDS
        if due:
            self.flush()

    def flush(self) -> None:
        with self.lock:
            amounts, self.waiting = dict(self.waiting), Counter()
            self.sent = time.monotonic()
        if amounts:
            self.counters.add.remote(amounts)


class Reporter:
    """Tells how far the run is until it is stopped: one live line on a terminal, else log lines."""

    def __init__(self, counters: Any, images: int, finished: int) -> None:
        self.counters = counters
        self.images = images
        self.finished = finished
        self.started = time.monotonic()
        self.sums: dict[str, float] = {}
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._report, daemon=True)

    def __enter__(self) -> Reporter:
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopped.set()
        self.thread.join()
        self._update()
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")

    def _report(self) -> None:
        live = sys.stderr.isatty()
        while not self.stopped.wait(1.0 if live else LINE_SECONDS):
            self._update()
            if live:
                sys.stderr.write(f"\r\033[K{self.line()}")
                sys.stderr.flush()
            else:
                log.info(self.line())

    def _update(self) -> None:
        # a run does not end because nobody counts along
        with contextlib.suppress(ray.exceptions.RayError):
            self.sums = ray.get(self.counters.get.remote())

    def line(self) -> str:
        """For instance `1,200 of 9,000 images (13 %), 41.3 images/s, 3 min 9 s left, 2 errors`."""
        done = min(self.finished + int(self.sums.get("images", 0)), self.images)
        rate = (done - self.finished) / (time.monotonic() - self.started)
        left = duration((self.images - done) / rate) + " left" if rate else "starting"
        errors = int(self.sums.get("errors", 0))
        share = f"{done:,} of {self.images:,} images ({100 * done // self.images} %)"
        return f"{share}, {rate:.1f} images/s, {left}, {errors:,} error{'s'[: errors != 1]}"


def duration(seconds: float) -> str:
    """A time span as a person says it: `42 s`, `3 min 9 s`, `5 h 12 min`, `2 d 3 h`."""
    whole = int(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (name, size), (next_name, next_size) in zip(units, units[1:], strict=False):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {name} {rest} {next_name}"
    return f"{whole} s"
