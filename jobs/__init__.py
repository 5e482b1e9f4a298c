"""The commands: each module is a job, which `prelabel JOB` or `python -m jobs.JOB` starts."""

import os
import sys
from types import TracebackType


def _briefly(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("prelabel: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


# Before a job can catch Ctrl-C itself it is imported, which takes a second; `-m` stands for the
# module until Python has found it. A program that imports this package keeps its own hook.
if os.path.basename(sys.argv[0]) in ("-m", "prelabel"):
    sys.excepthook = _briefly
