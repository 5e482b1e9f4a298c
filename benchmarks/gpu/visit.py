"""Stage after stage, each a process of its own; what becomes of one is no matter to the others."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import Asked, Stage

ROOT = Path(__file__).parents[2]
# seconds in which no stage gets anywhere
TOO_LITTLE = 5.0
OK, FAILED, SKIPPED = "ok", "failed", "skipped"


@dataclass(frozen=True)
class Outcome:
    """What became of a stage.

    Attributes:
        stage: its name.
        status: `OK`, `FAILED` or `SKIPPED`.
        seconds: that it took.
        why: in one line, unless it is `OK`.
    """

    stage: str
    status: str
    seconds: float = 0.0
    why: str = ""


def visit(
    stages: Sequence[Stage], asked: Asked, seconds: float
) -> tuple[list[Outcome], list[dict[str, Any]]]:
    """Run them, as long as there is time.

    Args:
        stages: in this order.
        asked: what each of them is told.
        seconds: for all of them; what is left of it limits a stage, too.

    Returns:
        The outcomes, and the rows that were written.
    """
    Path(asked.out).mkdir(parents=True, exist_ok=True)
    asked.results.touch()
    start = asked.results.stat().st_size
    until = time.monotonic() + seconds
    outcomes = []
    for stage in stages:
        left = until - time.monotonic()
        if stage.trained and not asked.bring:
            outcome = Outcome(stage.name, SKIPPED, why="needs a trained checkpoint: --bring")
        elif left < TOO_LITTLE:
            outcome = Outcome(stage.name, SKIPPED, why=f"the {seconds:g} s of --seconds are over")
        else:
            outcome = _run(stage, asked, min(stage.limit, left))
        print(f"{outcome.stage:8} {outcome.status:7} {outcome.seconds:6.1f} s  {outcome.why}"[:119])
        sys.stdout.flush()
        with asked.results.open("a") as file:
            file.write(json.dumps({"what": "outcome", **dataclasses.asdict(outcome)}) + "\n")
        outcomes.append(outcome)
    return outcomes, rows(asked.results, start)


def rows(path: Path, start: int = 0) -> list[dict[str, Any]]:
    """The rows behind so many bytes; one that was cut off by its process's end is left out."""
    found = []
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found


def _run(stage: Stage, asked: Asked, limit: float) -> Outcome:
    words = (stage.name, stage.task, str(limit), json.dumps(dataclasses.asdict(asked)))
    started, start = time.monotonic(), asked.results.stat().st_size
    with asked.log.open("ab") as log:
        log.write(f"== {stage.name}\n".encode())
        log.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.child", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            start_new_session=True,
        )
    code = None
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # with all that it has started
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    took = time.monotonic() - started
    if code == 0:
        return Outcome(stage.name, OK, took)
    if code is None:
        return Outcome(stage.name, FAILED, took, f"killed after its limit of {limit:.0f} s")
    return Outcome(stage.name, FAILED, took, _why(code, rows(asked.results, start)))


def _why(code: int, written: Sequence[dict[str, Any]]) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}"
    failed = [f"{row['what']}: {row['failed']}" for row in written if "failed" in row]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return f"{failed[0]}{more}" if failed else f"exit code {code}; see log.txt"
