"""How far a run is, in lines for a person to read."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)
LINE_SECONDS = 10.0


class Reporter:
    """Tells how far a run is: one live line on a terminal, else a log line now and then."""

    def __init__(self, images: int, finished: int) -> None:
        """
        Args:
            images: of the whole run.
            finished: before this attempt.
        """
        self.images = images
        self.finished = finished
        self.started = self.told = time.monotonic()
        self.live = sys.stderr.isatty()

    def tell(self, sums: Mapping[str, float]) -> None:
        """Show the present state; called about once a second."""
        if self.live:
            sys.stderr.write(f"\r\033[K{self.line(sums)}")
            sys.stderr.flush()
        elif time.monotonic() - self.told >= LINE_SECONDS:
            self.told = time.monotonic()
            log.info(self.line(sums))

    def clear(self) -> None:
        """Make way for other lines."""
        if self.live:
            sys.stderr.write("\r\033[K")

    def line(self, sums: Mapping[str, float]) -> str:
        """For instance `1,200 of 9,000 images (13 %), 41.3 images/s, 3 min 9 s left, 2 errors`."""
        done = min(self.finished + int(sums.get("images", 0)), self.images)
        rate = (done - self.finished) / (time.monotonic() - self.started)
        left = duration((self.images - done) / rate) + " left" if rate else "starting"
        errors = int(sums.get("errors", 0))
        share = f"{done:,} of {self.images:,} images ({100 * done // self.images} %)"
        return f"{share}, {rate:.1f} images/s, {left}, {errors:,} error{'s'[: errors != 1]}"


def duration(seconds: float) -> str:
    """A time span as a person says it: `42 s`, `3 min 9 s`, `5 h 12 min`, `2 d 3 h`."""
    whole = int(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (name, size), (next_name, next_size) in zip(units, units[1:], strict=False):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {name} {rest} {next_name}"
    return f"{whole} s"
