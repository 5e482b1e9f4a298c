"""A cheap run for tests to kill: `python -m tests.kill_target INPUT OUTPUT`."""

from __future__ import annotations

import logging
import sys

import ray

from pipeline import Config, run
from tests.engines import SlowEngine

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    config = Config(
        input=sys.argv[1], output=sys.argv[2], weights="random:0", rows_per_file=32, micro_batch=4
    )
    summary = run(config, SlowEngine)
    assert summary
    print(summary.images, summary.detections, summary.errors, summary.processed)
