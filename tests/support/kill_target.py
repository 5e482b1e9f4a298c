"""`jobs.detect` at no cost, for tests to kill.

`python -m tests.support.kill_target IN OUT [FLAG ...]` is that command.

With ENGINE_MIDDLE in the environment its engine is `MiddleEngine`.
With ENGINE_LOG, a folder, in the environment, its engine is the slower `LoggedEngine`, to which
ENGINE_SLOW, the number of a tile, and ENGINE_SECONDS, for each image, can be given.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

import ray

from jobs import cli, detect
from pipeline import run
from tests.support.engines import LoggedEngine, MiddleEngine, SlowEngine

SETTINGS = os.path.join(os.path.dirname(__file__), "kill_target.yaml")


def engine() -> Any:
    """The factory of the engine that the environment asks for."""
    if "ENGINE_MIDDLE" in os.environ:
        return MiddleEngine
    if "ENGINE_LOG" not in os.environ:
        return SlowEngine
    slow = int(os.environ.get("ENGINE_SLOW", -1))
    folder, seconds = os.environ["ENGINE_LOG"], float(os.environ.get("ENGINE_SECONDS", 0.05))
    return functools.partial(LoggedEngine, folder=folder, seconds=seconds, slow=slow)


def job(arguments: list[str]) -> int:
    """`jobs.detect.job`, but for the engine."""
    config, dry_run, refresh = detect.parse(arguments)
    summary = run(config, engine(), dry_run, refresh)
    if summary:
        detect.show(summary)
    return summary.exit_code if summary else 0


if __name__ == "__main__":
    if "RAY_ADDRESS" not in os.environ:
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    flags = ["--input", sys.argv[1], "--output", sys.argv[2]]
    flags += ["--micro-batch", "4", "--config", SETTINGS]
    cli.leave(cli.main("detect", job, [*flags, *sys.argv[3:]], detect.KEPT))
