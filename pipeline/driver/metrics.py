"""What a run says of itself while it goes on: for Prometheus by way of Ray, and a line a minute."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from ray.util import metrics

from pipeline.cluster.coordinator import State
from pipeline.driver.progress import Pace

log = logging.getLogger(__name__)
LINE_SECONDS = 60.0
SUMS = {
    "images": "Images that are done, those that failed included",
    "detections": "Boxes that were found",
    "reads": "Attempts at reading an image, or neighbours in an archive",
    "bytes_read": "Bytes of encoded images",
    "forwards": "Micro-batches that went through the network, but for the first of each replica",
    "written": "Rows in files of the output",
}
STAGES = ("fetch", "decode", "queue", "forward", "write")
GAUGES = {
    "images_left": "Images that are still to be done",
    "images_per_second": "Rate of the last minute",
    "seconds_left": "Time until the end at that rate",
    "micro_batch_fill": "Mean share of a micro-batch that is images",
}


class Metrics:
    """The metrics of one attempt, kept by its driver.

    Ray serves them on every node's metrics port, with `ray_prelabel_` before the names here. All
    have the tag `run`.

    Args:
        run_id: of the run.
        micro_batch: images of a full one.
        publish: is given, at each update, what the line a minute says.
    """

    def __init__(
        self, run_id: str, micro_batch: int, publish: Callable[[dict[str, Any]], None]
    ) -> None:
        self.run_id = run_id
        self.micro_batch = micro_batch
        self.publish = publish
        self.passed_on: defaultdict[str, float] = defaultdict(float)
        self.told = time.monotonic()
        self.sums = {name: _counter(name, text) for name, text in SUMS.items()}
        self.errors = _counter("errors", "Images that failed, by error code", "code")
        self.seconds = _counter(
            "stage_seconds",
            "Time spent, by stage; queue: decoded images that wait for the network",
            "stage",
        )
        self.gauges = {
            name: metrics.Gauge(f"prelabel_{name}", text, ("run",)) for name, text in GAUGES.items()
        }

    def update(self, state: State, pace: Pace) -> None:
        """Pass on what the run has done since the last call."""
        for name, counter in self.sums.items():
            self._pass_on(counter, name, state.sums[name])
        for code, count in state.codes.items():
            self._pass_on(self.errors, f"error {code}", count, code=code)
        for stage in STAGES:
            name = f"seconds_{stage}"
            self._pass_on(self.seconds, name, state.sums[name], stage=stage)
        content = self._content(state, pace)
        for name, gauge in self.gauges.items():
            if content[name] is not None:  # 0 s left would say that the run is at its end
                gauge.set(content[name], {"run": self.run_id})
        self.publish(content)
        # for programs: on a terminal a person looks at the live line
        if time.monotonic() - self.told >= LINE_SECONDS and not sys.stderr.isatty():
            self.told = time.monotonic()
            log.info("metrics   %s", json.dumps(content))

    def _pass_on(self, counter: metrics.Counter, name: str, value: float, **tags: str) -> None:
        grown = value - self.passed_on[name]
        if grown > 0:  # less: the coordinator died and began anew
            counter.inc(grown, {"run": self.run_id, **tags})
        self.passed_on[name] = value

    def _content(self, state: State, pace: Pace) -> dict[str, Any]:
        sums, left = state.sums, pace.seconds_left
        places = sums["forwards"] * self.micro_batch
        return {
            "images": pace.done,
            "images_left": pace.images - pace.done,
            "images_per_second": float(f"{pace.images_per_second:.4g}"),
            "seconds_left": None if left is None else round(left),
            "detections": int(sums["detections"]),
            "errors": dict((pace.failed + state.codes).most_common()),
            "bytes_read": int(sums["bytes_read"]),
            "seconds": {stage: round(sums[f"seconds_{stage}"], 1) for stage in STAGES},
            "micro_batch_fill": round(sums["forwarded"] / places, 3) if places else None,
        }


def _counter(name: str, description: str, *tags: str) -> metrics.Counter:
    return metrics.Counter(f"prelabel_{name}", description, ("run", *tags))
