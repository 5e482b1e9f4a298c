"""How far a run is, in lines for a person to read."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.words import count, duration

log = logging.getLogger(__name__)
LINE_SECONDS = 10.0
# a log of hours would be nothing but such lines: after so long they come more rarely
CALM_AFTER, CALM_SECONDS = 600.0, 60.0
# over which the rate is taken
RATE_SECONDS = 60.0


@dataclass(frozen=True)
class Pace:
    """How far a run is.

    Attributes:
        done: number of images that are done, by earlier attempts too.
        images: of the whole run.
        images_per_second: of the last minute, from this attempt's first image on; 0 until there
            are several.
        failed: number of failed images by error code, in files of earlier attempts.
        busy: share of that time in which the networks had work.
    """

    done: int
    images: int
    images_per_second: float
    failed: Counter[str] = field(default_factory=Counter)
    busy: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """At that rate; None while there is none."""
        rate = self.images_per_second
        return (self.images - self.done) / rate if rate else None


class Reporter:
    """Tells how far a run is: one live line on a terminal, else a log line now and then."""

    def __init__(
        self,
        images: int,
        finished: int,
        failed: Counter[str] | None = None,
        replicas: int = 1,
    ) -> None:
        """
        Args:
            images: of the whole run.
            finished: before this attempt.
            failed: of these, by error code.
            replicas: at work.
        """
        self.images = images
        self.replicas = replicas
        self.finished = finished
        self.failed = failed or Counter()
        # when the number of this attempt's images was seen to change, to what, for how long the
        # networks had worked by then, and how many were at work
        self.changes: deque[tuple[float, int, float, int]] = deque()
        self.began = self.told = time.monotonic()
        self.live = sys.stderr.isatty()

    def found(self, finished: int, failed: Counter[str]) -> None:
        """So many more images were finished before this attempt, and failed, than was known."""
        self.finished += finished
        self.failed = self.failed + failed  # a new one, for another thread reads it

    def tell(self, sums: Mapping[str, float], starting: str = "starting") -> None:
        """Show the present state; called about once a second.

        Args:
            sums: of this attempt.
            starting: what is said in place of a rate until there is one.
        """
        if self.live:
            room = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\033[K{self.line(sums, starting)[:room]}")
            sys.stderr.flush()
            return
        now = time.monotonic()
        if now - self.told >= (LINE_SECONDS if now - self.began < CALM_AFTER else CALM_SECONDS):
            self.told = now
            log.info(self.line(sums, starting))

    def clear(self) -> None:
        """Make way for other lines."""
        if self.live:
            sys.stderr.write("\r\033[K")

    def line(self, sums: Mapping[str, float], starting: str = "starting") -> str:
        """For instance
        `1,200 of 9,000 images (13 %), 41.3/s, 3 min 9 s left, 2 errors, network 97 %`.
        """
        pace = self.pace(sums)
        seconds = pace.seconds_left
        rate = pace.images_per_second
        if seconds is None:
            left = starting
        else:
            speed = f"{rate:,.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"
            left = f"{speed}, {duration(seconds)} left"
        errors = self.failed.total() + int(sums.get("errors", 0))
        share = f"{pace.done:,} of {pace.images:,} images ({100 * pace.done // pace.images} %)"
        busy = "" if seconds is None else f", network {pace.busy:.0%}".replace("%", " %")
        regions = int(sums.get("regions", 0))
        large = f", {regions:,} regions of large images" if regions else ""
        return f"{share}{large}, {left}, {count(errors, 'error')}{busy}"

    def pace(self, sums: Mapping[str, float]) -> Pace:
        """From the sums of this attempt."""
        done, now = int(sums.get("images", 0)), time.monotonic()
        if done and (not self.changes or done != self.changes[-1][1]):
            worked = sums.get("seconds_forward", 0.0)
            self.changes.append((now, done, worked, self.replicas))
        while len(self.changes) > 2 and now - self.changes[1][0] > RATE_SECONDS:
            self.changes.popleft()
        since, before, worked, replicas = self.changes[0] if self.changes else (now, 0, 0.0, 1)
        span = now - since
        rate = max(0, done - before) / span if span > 0 else 0.0
        work = sums.get("seconds_forward", 0.0) - worked
        # one that has come since could not have worked all the time
        replicas = min(replicas, self.replicas)
        busy = min(1.0, max(0.0, work / span / replicas)) if span > 0 else 0.0
        return Pace(min(self.finished + done, self.images), self.images, rate, self.failed, busy)

    def kept(self, sums: Mapping[str, float], written: int) -> str:
        """For instance `860 images are written, 64 that were begun will be done again`.

        Args:
            sums: of this attempt.
            written: images in files, by earlier attempts too.
        """
        again = int(sums.get("images", 0)) - (written - self.finished)
        text = f"{written:,} {'image is' if written == 1 else 'images are'} written"
        if again > 0:
            text += (
                f", {again:,} that {'was' if again == 1 else 'were'} begun will be processed again"
            )
        return text
