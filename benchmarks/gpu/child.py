"""The process of one stage: `python -m benchmarks.gpu.child NAME MODULE:FUNCTION LIMIT ASKED`."""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import sys

from benchmarks.gpu.plan import Asked
from benchmarks.gpu.record import Record

# of the limit, after which it is told where the time goes
LATE = 0.95


def main(name: str, task: str, limit: float, asked: Asked) -> int:
    """Run a stage; 1 if it failed."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(LATE * limit)
    record = Record(name, asked)
    module, _, function = task.partition(":")

    def run() -> None:
        task = getattr(importlib.import_module(module), function)
        # what is imported stays; else `Scene.clear` looks through it for a fifth of a second
        gc.freeze()
        task(record)

    record.attempt("stage", run)
    return 1 if record.failures else 0


if __name__ == "__main__":
    _, name, task, limit, asked = sys.argv
    code = main(name, task, float(limit), Asked(**json.loads(asked)))
    sys.stdout.flush()
    # at once: it takes torch most of a second to be taken down
    os._exit(code)
