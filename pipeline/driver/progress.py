"""How far a run is, in lines for a person to read."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.words import count, duration

log = logging.getLogger(__name__)
LINE_SECONDS = 10.0


@dataclass(frozen=True)
class Pace:
    """How far a run is.

    Attributes:
        done: number of images that are done, by earlier attempts too.
        images: of the whole run.
        images_per_second: of this attempt, from its start.
    """

    done: int
    images: int
    images_per_second: float

    @property
    def seconds_left(self) -> float | None:
        """At that rate; None while there is none."""
        rate = self.images_per_second
        return (self.images - self.done) / rate if rate else None


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
        pace = self.pace(sums)
        seconds = pace.seconds_left
        left = "starting" if seconds is None else f"{duration(seconds)} left"
        errors = int(sums.get("errors", 0))
        share = f"{pace.done:,} of {pace.images:,} images ({100 * pace.done // pace.images} %)"
        rate = f"{pace.images_per_second:.1f} images/s"
        return f"{share}, {rate}, {left}, {count(errors, 'error')}"

    def pace(self, sums: Mapping[str, float]) -> Pace:
        """From the sums of this attempt."""
        done = min(self.finished + int(sums.get("images", 0)), self.images)
        rate = (done - self.finished) / (time.monotonic() - self.started)
        return Pace(done, self.images, rate)
