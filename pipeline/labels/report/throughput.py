"""How fast a run went: its attempts, and the images committed over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np

from pipeline.labels.output import Output
from pipeline.outputs.schema import STATUSES
from pipeline.store import objects

# between the clock of the driver, which wrote when an attempt began, and that of the store
SKEW = 60.0
MOST_BARS = 60
MINUTE, HOUR, DAY = 60, 3600, 86_400
INTERVALS = (
    *(1, 2, 5, 10, 30),
    *(MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE),
    *(HOUR, 2 * HOUR, 6 * HOUR, 12 * HOUR),
    *(DAY, 2 * DAY, 7 * DAY),
)


@dataclass(frozen=True)
class Stretch:
    """One start of the run.

    Attributes:
        started: seconds since the epoch.
        ended: likewise, or None where it was killed.
        images: that it wrote, or None where it was killed.
        seconds: `wall`, and the sum over all workers by stage.
        host: that it was started on.
        placement: what ran on what.
        versions: of Python and the packages.
    """

    started: float
    ended: float | None
    images: int | None
    seconds: Mapping[str, float]
    host: str
    placement: Mapping[str, Any]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Series:
    """Images committed over the time at work, the pauses between attempts left out.

    Attributes:
        interval: seconds that a bar stands for.
        images: [n] float, per interval; a file's are spread evenly over the time since the file
            before it, for that is when they were made.
        files: whose time lies within an attempt.
        others: files whose time does not, and which are left out.
    """

    interval: float
    images: np.ndarray
    files: int
    others: int


def attempts(record: Mapping[str, Any]) -> list[Stretch]:
    """The attempts of `run.json`, in order."""
    return [
        Stretch(
            started=_epoch(known["started"]),
            ended=_epoch(known["ended"]) if known["ended"] else None,
            images=known.get("images"),
            seconds=known.get("seconds", {}),
            host=str(known.get("host", "")),
            placement=known.get("placement", {}),
            versions=known.get("versions", {}),
        )
        for known in record["attempts"]
    ]


def overall(known: Sequence[Stretch]) -> tuple[int, float]:
    """Images and wall seconds of the attempts that came to their end."""
    ended = [attempt for attempt in known if attempt.images is not None]
    return (
        sum(attempt.images or 0 for attempt in ended),
        sum(attempt.seconds.get("wall", 0.0) for attempt in ended),
    )


def written(output: Output) -> dict[str, float]:
    """Name of each file of detections to the time of its writing, in seconds since the epoch.

    Files are left out whose store does not tell.
    """
    found = {}
    for status in STATUSES:
        folder = f"status={status}"
        path = output.layout.file(folder)
        try:
            entries = objects.retrying(partial(output.layout.fs.ls, path, detail=True))
        except FileNotFoundError:
            continue
        for entry in entries:
            time = next((entry[key] for key in ("mtime", "LastModified") if entry.get(key)), None)
            if time is not None:
                name = f"{folder}/{str(entry['name']).rsplit('/', 1)[-1]}"
                found[name] = time.timestamp() if isinstance(time, datetime) else float(time)
    return found


def series(
    known: list[Stretch], rows: Mapping[str, int], times: Mapping[str, float]
) -> Series | None:
    """
    Args:
        known: the attempts.
        rows: by name of a file.
        times: from `written`.

    Returns:
        None where no file was written while the run was at work: the output is a copy.
    """
    names = [name for name in rows if name in times]
    when = np.array([times[name] for name in names])
    images = np.array([rows[name] for name in names])
    at_work = np.full(len(names), np.nan)
    total = 0.0
    for number, attempt in enumerate(known):
        following = known[number + 1].started if number + 1 < len(known) else np.inf
        end = attempt.ended or following
        latest = min(end + SKEW, following)
        inside = np.isnan(at_work) & (when >= attempt.started - SKEW) & (when < latest)
        if attempt.ended is None:  # killed: it was at work until its last file at least
            end = when[inside].max(initial=attempt.started)
        length = end - attempt.started
        at_work[inside] = total + np.clip(when[inside] - attempt.started, 0, length)
        total += length
    inside = ~np.isnan(at_work)
    if not inside.any():
        return None
    order = np.argsort(at_work[inside])
    moments = np.concatenate([[0.0], at_work[inside][order]])
    done = np.concatenate([[0], np.cumsum(images[inside][order])])
    interval = next((i for i in INTERVALS if total / i <= MOST_BARS), total / MOST_BARS)
    edges = np.arange(max(int(np.ceil(total / interval)), 1) + 1) * interval
    files = int(inside.sum())
    return Series(
        float(interval), np.diff(np.interp(edges, moments, done)), files, len(rows) - files
    )


def _epoch(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
