"""What a stage writes down, row by row, so that nothing is lost where it ends early."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.plan import Asked


class Record:
    """The rows of one stage.

    Args:
        stage: its name.
        asked: what all stages are told.

    Attributes:
        failures: number of rows that say that something failed.
    """

    def __init__(self, stage: str, asked: Asked) -> None:
        self.stage, self.asked = stage, asked
        self.began = time.monotonic()
        self.failures = 0

    def say(self, what: str, **values: Any) -> None:
        """Append a row, and flush it.

        Args:
            what: the row's name in the table.
            values: by column; `note` is a sentence instead, and `shown=False` keeps the row out of
                the table.
        """
        at = round(time.monotonic() - self.began, 1)
        row = json.dumps({"stage": self.stage, "what": what, "at": at, **values}, default=str)
        with self.asked.results.open("a") as file:
            file.write(row + "\n")
        print(row, flush=True)

    def fail(self, what: str, why: str) -> None:
        """A row of what went wrong; the stage goes on, and counts as failed."""
        self.failures += 1
        self.say(what, failed=" ".join(why.split())[:300])

    def attempt(self, what: str, step: Callable[..., object], *arguments: Any) -> None:
        """Call it with these arguments; what it raises is a row."""
        try:
            step(*arguments)
        except Exception as error:
            traceback.print_exc()
            self.fail(what, f"{type(error).__name__}: {error}")
