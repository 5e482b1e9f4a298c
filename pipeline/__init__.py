"""Boxes for every image in a bucket: `run(Config(input=..., output=...))`."""

from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.errors import RunError, UsageError

if TYPE_CHECKING:
    from pipeline.driver.runner import run
    from pipeline.driver.summary import Summary

__all__ = ["Config", "RunError", "Summary", "UsageError", "run"]


def __getattr__(name: str) -> Any:
    # late, so that decoder, network and labels can be used where Ray is not installed
    if name in ("Summary", "run"):
        from pipeline.driver.runner import run
        from pipeline.driver.summary import Summary

        return {"Summary": Summary, "run": run}[name]
    raise AttributeError(name)
