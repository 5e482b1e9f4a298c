"""How far a run is, told from its output alone, by whoever sees that; nothing is changed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from pipeline.config import fingerprint
from pipeline.errors import UsageError
from pipeline.locations import checked_url
from pipeline.outputs import lease, manifest, seal
from pipeline.outputs.finished import Finished
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import Manifest
from pipeline.store import failures, objects


@dataclass(frozen=True)
class Slice:
    """What is known of a slice.

    Attributes:
        index: its number.
        images: in it.
        written: of these in files.
        errors: number of the failed ones among them, by error code.
        sealed: its files are known to hold each of its images once.
    """

    index: int
    images: int
    written: int
    errors: Counter[str]
    sealed: bool

    @property
    def stage(self) -> str:
        """`sealed`, `begun` or `waiting`."""
        return "sealed" if self.sealed else "begun" if self.written else "waiting"


@dataclass(frozen=True)
class Status:
    """What is known of a run.

    Attributes:
        url: of the output.
        complete: whether `_SUCCESS` is there.
        attempts: as in `run.json`.
        slices: all of them; None until the input is listed.
        owner: content of the lease, if there is one.
        alive: whether its holder gave a sign of life.
    """

    url: str
    complete: bool
    attempts: list[dict[str, Any]]
    slices: list[Slice] | None
    owner: dict[str, Any] | None
    alive: bool

    @property
    def images(self) -> int:
        return sum(part.images for part in self.slices or ())

    @property
    def written(self) -> int:
        return sum(part.written for part in self.slices or ())

    @property
    def errors(self) -> Counter[str]:
        return sum((part.errors for part in self.slices or ()), Counter())


def look(url: str) -> Status:
    """Look at an output; for a few seconds, where a run on another machine may hold it.

    Raises:
        UsageError: there is no run's output, or it cannot be read.
    """
    layout = Layout.of(checked_url("OUTPUT", url).rstrip("/"))
    try:
        if _is_listing(layout):
            return Status(layout.url, False, [], None, *lease.owner(layout))
        known = record_of(layout)
        retry_from = known["retry_from"]
        found = manifest.load(layout, fingerprint(known["identity"]))
        slices = None
        if found:
            slices = [_slice(layout, found, index, retry_from) for index in found.slices]
        owner, alive = lease.owner(layout)
        complete = objects.get(layout.fs, layout.success) is not None and not retry_from
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise failures.unusable("read", layout.url, error) from error
    return Status(layout.url, complete, known["attempts"], slices, owner, alive)


def _is_listing(layout: Layout) -> bool:
    """Whether a run has begun here that has no record yet: it gets one once all is listed."""
    held = lease.read(layout, objects.FIRST_ATTEMPTS) is not None
    return held and objects.get(layout.fs, layout.record) is None


def record_of(layout: Layout) -> dict[str, Any]:
    """The content of `run.json`.

    Raises:
        UsageError: there is none.
        OSError, ValueError: it cannot be read, or is no record of a run.
    """
    known = objects.get_json(layout.fs, layout.record, objects.FIRST_ATTEMPTS)
    if known is None:
        raise no_output(layout, "_run/run.json")
    if not isinstance(known, dict):
        raise ValueError("it is not the record of a run")
    return known


def no_output(layout: Layout, lacking: str) -> UsageError:
    """What to say of a place that holds no run's output.

    Args:
        layout: of the place.
        lacking: what an output has and this place has not.

    Raises:
        OSError: it cannot be read.
    """
    url = layout.url
    if not objects.retrying(lambda: layout.fs.exists(layout.root), objects.FIRST_ATTEMPTS):
        return UsageError(f"{url} does not exist")
    message = f"{url} is not an output of prelabel detect: it has no {lacking}"
    if inside := re.fullmatch("(.+)/(detections|_run)(/.*)?", url):
        above = Layout.of(inside[1])
        if objects.get(above.fs, above.record, objects.FIRST_ATTEMPTS) is not None:
            message += f" (did you mean {above.url}?)"
    return UsageError(message)


def finished_record(layout: Layout) -> dict[str, Any]:
    """The content of `run.json` of a run that has come to its end.

    Raises:
        UsageError: there is none, it is not finished, or cannot be read.
    """
    try:
        known = record_of(layout)
        finished = objects.get(layout.fs, layout.success) is not None
    except (OSError, ValueError) as error:
        raise failures.unusable("read", layout.url_of(layout.record), error) from error
    if not finished or not known.get("counts"):
        raise UsageError(f"{layout.url} is not finished; run its detect command again first")
    return known


def _slice(layout: Layout, known: Manifest, index: int, retry_from: int) -> Slice:
    rows = known.rows_of(index)
    if sealed := seal.load(layout, index, retry_from):
        return Slice(index, rows, rows, Counter(sealed.errors), True)
    finished = Finished.of(layout, known, index, retry_from)
    try:
        finished.look()
    except FileNotFoundError:  # the run has just put another file in its place
        finished.look()
    return Slice(index, rows, rows - finished.unfinished, finished.errors, False)
