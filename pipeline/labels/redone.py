"""Images that a run has processed again since somebody looked at what it had found, as `--refresh`
does with those that have changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.labels.output import Output
from pipeline.labels.truth import Truth
from pipeline.store import urls

REASON = "processed again since their export"


def drawn_of(output: Output, truth: Truth) -> int:
    """The number of the run's attempt whose output annotated images were drawn from: of the export
    that came first, or, if that is not known, of the latest.
    """
    exported = _exported(output, truth)
    return int(exported.min()) if len(exported) else len(output.record["attempts"])


def _exported(output: Output, truth: Truth) -> np.ndarray:
    """The known ones of the truth's attempts, if they are of this run."""
    of_run = all(export["run_id"] == output.record["run_id"] for export in truth.exports)
    return truth.attempts[(truth.attempts > 0) & of_run]


def without_redone(output: Output, truth: Truth) -> Truth:
    """The annotations without those of images that the run has processed again since the export
    that was annotated: they are of the pictures, and of the boxes, as these were before.

    Args:
        output: the run's.
        truth: annotations; those of other runs, and of exports that do not say when they were
            made, stay.

    Raises:
        UsageError: no image is left.
        RunError: the output is damaged.
    """
    exported = _exported(output, truth)
    if not len(exported):
        return truth
    kept = np.ones(len(truth.ids), bool)
    for attempt, table in _later(output, int(exported.min()), "image_uri"):
        for uri in table["image_uri"].to_pylist():
            place = truth.place(uri)
            if place and place[1] and 0 < truth.attempts[place[0]] < attempt:
                kept[place[0]] = False
    if kept.all():
        return truth
    if not kept.any():
        raise UsageError(
            f"all images of {urls.public(truth.url)} were {REASON}, so it says nothing of what "
            f"{output.url} has found by now: export and correct them again"
        )
    left_out = Counter({REASON: int(np.count_nonzero(~kept))})
    return replace(truth.of(np.flatnonzero(kept)), unreviewed=truth.unreviewed + left_out)


def redone(output: Output, attempt: int | None) -> np.ndarray:
    """Ids of the images that are ok and were processed after an attempt: [n] int64, rising; none if
    it is not known which one.

    Raises:
        RunError: the output is damaged.
    """
    if attempt is None:
        return np.empty(0, np.int64)
    found = [table["image_id"].to_numpy() for _, table in _later(output, attempt, "image_id")]
    return np.sort(np.concatenate([*found, np.empty(0, np.int64)]))


def among(ids: np.ndarray, some: np.ndarray) -> np.ndarray:
    """[n] bool, which ids are among some that rise."""
    found: np.ndarray = np.searchsorted(some, ids, "right") > np.searchsorted(some, ids)
    return found


def _later(output: Output, attempt: int, column: str) -> Iterator[tuple[int, pa.Table]]:
    """A column of the images that are ok and were processed after an attempt, by file, with the
    number of the attempt that has done it.
    """
    names = [name for name in output.files(("ok",)) if name.attempt > attempt]
    for name, future in output.read_files(names, [column]):
        yield name.attempt, future.result()
