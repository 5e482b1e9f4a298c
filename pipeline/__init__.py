"""Boxes for every image in a bucket: `run(Config(input=..., output=...))`."""

import os
from typing import TYPE_CHECKING, Any

from pipeline.config import Config, RunError, UsageError

if TYPE_CHECKING:
    from pipeline.runner import run
    from pipeline.summary import Summary

# The replicas that wait for a GPU are what an autoscaler is asked for. What Ray Data asks for, too,
# would hold the nodes of replicas that are done. It looks here when it is imported.
for _resource in ("CPU", "GPU", "MEMORY", "OBJECT_STORE_MEMORY"):
    os.environ.setdefault(f"RAY_DATA_DEFAULT_CLUSTER_SCALING_UP_{_resource}_UTIL_THRESHOLD", "1e9")

__all__ = ["Config", "RunError", "Summary", "UsageError", "run"]


def __getattr__(name: str) -> Any:
    # late, so that decoder, model and engine can be used where Ray is not installed
    if name in ("Summary", "run"):
        from pipeline import runner

        return getattr(runner, name)
    raise AttributeError(name)
