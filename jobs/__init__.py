"""The commands: each module is a job, which `prelabel JOB` or `python -m jobs.JOB` starts."""

import os
import sys
from types import TracebackType


def lacking(error: BaseException) -> str | None:
    """What to do about a package that this Python has not; None if the error is another."""
    module = (getattr(error, "name", None) or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or module in ("", "jobs", "pipeline"):
        return None
    return (
        f"{sys.executable} has no module {module}: install Prelabel's packages there, or start "
        "the Python that has them; with `ray job submit`, add --runtime-env runtime_env.yaml"
    )


def _briefly(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("prelabel: interrupted", file=sys.stderr)
    elif text := lacking(error):
        print(f"prelabel: {text}", file=sys.stderr)
        sys.exit(2)
    else:
        sys.__excepthook__(kind, error, traceback)


# Before a job can catch an error itself it is imported, which takes a second and other packages;
# `-m` stands for the module until Python has found it. A program that imports this package keeps
# its own hook.
if os.path.basename(sys.argv[0]) in ("-m", "prelabel"):
    sys.excepthook = _briefly
