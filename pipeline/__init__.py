"""Boxes for every image in a bucket: `run(Config(input=..., output=...))`."""

from typing import Any

from pipeline.config import Config, RunError, UsageError

__all__ = ["Config", "RunError", "Summary", "UsageError", "run"]


def __getattr__(name: str) -> Any:
    # late, so that decoder, model and engine can be used where Ray is not installed
    if name in ("Summary", "run"):
        from pipeline import runner

        return getattr(runner, name)
    raise AttributeError(name)
