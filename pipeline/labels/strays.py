"""Annotations that a run has nothing for: named, and refused where they are most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline import words
from pipeline.errors import UsageError
from pipeline.labels.match import Matched
from pipeline.labels.output import Output
from pipeline.labels.truth import Truth, fold_class, told

NAMED = 5


def check(
    output: Output,
    matched: Matched,
    own: Collection[str],
    kept: Sequence[str],
    present_only: bool = False,
) -> tuple[Truth, Counter[str]]:
    """Tell annotations apart that are of an image or a class that the run lacks.

    Args:
        output: the run's.
        matched: its images, as from `match`.
        own: names of all of the run's classes.
        kept: names of those that `match` was given.
        present_only: whether images that the run lacks are left out.

    Returns:
        The truth without the classes that are not kept, which it counts as left out, and how many
        annotations there are of each category that is no class of the run.

    Raises:
        UsageError: those of no image or no class are more than half of all that are not of classes
            that are not kept.
    """
    truth = matched.truth
    dropped, foreign = _without_class(truth, own, kept)
    absent = np.zeros(len(truth.ids), bool)
    absent[matched.absent] = True
    without_image = absent[truth.image_places]
    counted = ~(without_image & present_only)
    left_out = _counts(truth, dropped, counted)
    counted &= ~np.isin(truth.box_categories, list(dropped))
    by_name = _counts(truth, foreign, counted)
    without_class = np.isin(truth.box_categories, list(foreign))
    lost = np.count_nonzero((without_class | without_image) & counted) + truth.left_out.total()
    every = np.count_nonzero(counted) + truth.left_out.total()
    if 2 * lost > every:
        why = _why_lost(truth, int(np.count_nonzero(without_image & counted)), by_name)
        raise UsageError(
            f"{lost:,} of {every:,} annotations of {truth.url} have nothing in {output.url} to be "
            f"compared with: {why}"
        )
    return _without(truth, dropped, left_out), by_name


def _why_lost(truth: Truth, without_image: int, by_name: Counter[str]) -> str:
    """The reasons, and what helps."""
    reasons = Counter(truth.left_out)
    ways = []
    if without_image:
        reasons["of images that the run does not have"] = without_image
        ways.append("--present-only leaves out images that the run does not have")
    if by_name:
        reason = f"of categories that are not classes of the run ({named(by_name)})"
        reasons[reason] = by_name.total()
        ways.append("--classes renames the run's classes to the categories")
    return f"{told(reasons)}; {'; '.join(ways) or 'check that it is the right file'}"


def _without_class(
    truth: Truth, own: Collection[str], kept: Sequence[str]
) -> tuple[dict[int, str], dict[int, str]]:
    """Id and name of each category that no class that is kept has: of other classes of the run, and
    of none.
    """
    found = {*truth.ids_of(kept)}
    others = {*own} - {*kept}
    folded = {*map(fold_class, others)} - {*map(fold_class, kept)}
    unfound = {k: name for name, k in truth.category_ids.items() if k not in found}
    dropped = {k: v for k, v in unfound.items() if v in others or fold_class(v) in folded}
    return dropped, {k: name for k, name in unfound.items() if k not in dropped}


def _counts(truth: Truth, categories: Mapping[int, str], counted: np.ndarray) -> Counter[str]:
    """Number of annotations by name, of those categories that have any."""
    mine = truth.box_categories[counted & np.isin(truth.box_categories, list(categories))]
    found, counts = np.unique(mine, return_counts=True)
    pairs = zip(found.tolist(), counts.tolist(), strict=True)
    return Counter({categories[k]: n for k, n in pairs})


def _without(truth: Truth, dropped: Mapping[int, str], left_out: Counter[str]) -> Truth:
    if not dropped:
        return truth
    reason = f"of classes that --classes leaves out or renames ({named(left_out)})"
    return replace(
        truth.only(~np.isin(truth.box_categories, list(dropped))),
        category_ids={name: k for name, k in truth.category_ids.items() if k not in dropped},
        left_out=truth.left_out + Counter({reason: left_out.total()}),
    )


def notes(truth: Truth, foreign: Counter[str]) -> list[str]:
    """Which annotations count otherwise than one would expect, a line each.

    Args:
        truth, foreign: as from `check`.
    """
    lines = []
    if foreign:
        count = foreign.total()
        lines.append(
            f"{count:,} annotations of categories that are not classes of the run, counted as not "
            f"found: {named(foreign)}"
        )
    if truth.unreviewed:
        count = truth.unreviewed.total()
        lines.append(f"{count:,} images not reviewed, left out: {told(truth.unreviewed)}")
    if truth.left_out:
        count = truth.left_out.total()
        lines.append(f"{count:,} annotations left out: {told(truth.left_out)}")
    return lines


def named(names: Collection[str]) -> str:
    """Some names for a person."""
    shown = ", ".join(repr(words.printable(name, 100)) for name in list(names)[:NAMED])
    return shown + (", ..." if len(names) > NAMED else "")
