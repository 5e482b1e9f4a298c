"""Boxes for every image in a bucket: `run(Config(input=..., output=...))`."""

import importlib
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.errors import RunError, UsageError

if TYPE_CHECKING:
    from pipeline.driver.runner import run
    from pipeline.driver.summary import Summary
    from pipeline.outputs.boxes import read_boxes, stream_boxes

__all__ = ["Config", "RunError", "Summary", "UsageError", "read_boxes", "run", "stream_boxes"]
# late, so that decoder, network and labels can be used where Ray is not installed
LATE = {
    "Summary": "pipeline.driver.summary",
    "run": "pipeline.driver.runner",
    "read_boxes": "pipeline.outputs.boxes",
    "stream_boxes": "pipeline.outputs.boxes",
}


def __getattr__(name: str) -> Any:
    if name in LATE:
        return getattr(importlib.import_module(LATE[name]), name)
    raise AttributeError(name)
