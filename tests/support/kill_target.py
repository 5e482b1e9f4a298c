"""`jobs.detect` at no cost, for tests to kill: `python -m tests.support.kill_target IN OUT [FLAG ...]`

With ENGINE_LOG, a folder, in the environment, its engine is the slower `LoggedEngine`, to which
ENGINE_SLOW, the number of a tile, can be given.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

import ray

from jobs import cli, detect
from pipeline.driver import runner
from tests.support.engines import LoggedEngine, SlowEngine

if __name__ == "__main__":
    engine: Any = SlowEngine
    if "ENGINE_LOG" in os.environ:
        slow = int(os.environ.get("ENGINE_SLOW", -1))
        engine = functools.partial(
            LoggedEngine, folder=os.environ["ENGINE_LOG"], seconds=0.05, slow=slow
        )
    runner.run = functools.partial(runner.run, make_engine=engine)
    if "RAY_ADDRESS" not in os.environ:
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    flags = [
        "--input",
        sys.argv[1],
        "--output",
        sys.argv[2],
        "--micro-batch",
        "4",
        "--config",
        os.path.join(os.path.dirname(__file__), "kill_target.yaml"),
    ]
    cli.leave(detect.main([*flags, *sys.argv[3:]]))
