"""How far a run is, told from its output alone, by whoever sees that; nothing is changed."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from fsspec import AbstractFileSystem

from pipeline import lease, manifest, objects, storage
from pipeline.config import UsageError, checked_url, fingerprint
from pipeline.sink import Finished

RENEWED_SECONDS = 3 * lease.RENEW_SECONDS


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
        slices: all of them; None while the input is still being listed.
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
    url = checked_url("OUTPUT", url).rstrip("/")
    fs, root = storage.filesystem(url)
    folder = f"{root}/_run"
    try:
        known = objects.get_json(fs, f"{folder}/run.json", attempts=4)
        if known is None:
            raise UsageError(f"{url} is no output of jobs.detect: it has no _run/run.json")
        retry_from = known["retry_from"]
        found = manifest.load(fs, folder, fingerprint(known["identity"]))
        slices = None if found is None else [
            _slice(fs, root, index, found.slice_rows(index), retry_from) for index in found.slices
        ]  # fmt: skip
        owner, alive = _owner(fs, f"{folder}/lease.json")
        complete = objects.get(fs, f"{root}/_SUCCESS") is not None and not retry_from
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise storage.unusable("read", url, error) from error
    return Status(url, complete, known["attempts"], slices, owner, alive)


def _slice(fs: AbstractFileSystem, root: str, index: int, rows: int, retry_from: int) -> Slice:
    sealed = objects.get_json(fs, f"{root}/_run/slices/{index:05d}.json")
    if sealed and (not sealed["errors"] or sealed["attempt"] >= retry_from):
        return Slice(index, rows, rows, Counter(sealed["errors"]), True)
    finished = Finished(fs, f"{root}/detections", index, rows, retry_from)
    try:
        finished.look()
    except FileNotFoundError:  # the run has just put another file in its place
        finished.look()
    return Slice(index, rows, rows - finished.missing, finished.errors, False)


def _owner(fs: AbstractFileSystem, path: str) -> tuple[dict[str, Any] | None, bool]:
    """The lease, and whether it is renewed before our eyes: clocks of machines may differ."""
    first = lease.read(fs, path)
    if first is None or lease.is_gone(first):
        return first, False
    deadline = time.monotonic() + RENEWED_SECONDS
    while time.monotonic() < deadline:
        time.sleep(1.0)
        now = lease.read(fs, path)
        if now != first:
            return now, now is not None
    return first, False
