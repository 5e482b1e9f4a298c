"""Annotations that a run has nothing for: named, and refused where they are most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np

from pipeline import words
from pipeline.errors import UsageError
from pipeline.labels.match import Matched
from pipeline.labels.output import Output
from pipeline.labels.truth import fold_class, told

NAMED = 5


def check(
    output: Output, matched: Matched, classes: Collection[str], present_only: bool = False
) -> Counter[str]:
    """Annotations of the file that are of an image or a class that the run lacks, by class name.

    Args:
        output: the run's.
        matched: its images, as from `match`.
        classes: all names that the run's classes have, whether or not they are kept.
        present_only: whether images that the run lacks are left out.

    Returns:
        How many there are of each category that is no class of the run.

    Raises:
        UsageError: they are more than half of all annotations.
    """
    truth = matched.truth
    known = {*map(fold_class, classes)}
    foreign = {k: name for name, k in truth.category_ids.items() if fold_class(name) not in known}
    absent = np.zeros(len(truth.ids), bool)
    absent[matched.absent] = True
    without_image = absent[truth.image_places]
    counted = ~without_image if present_only else np.ones(len(without_image), bool)
    without_class = np.isin(truth.box_categories, list(foreign)) & counted
    found, counts = np.unique(truth.box_categories[without_class], return_counts=True)
    by_name = Counter({foreign[k]: n for k, n in zip(found.tolist(), counts.tolist(), strict=True)})
    reasons = Counter(truth.left_out)
    ways = []
    if not present_only and (count := int(np.count_nonzero(without_image))):
        reasons["of images that the run does not have"] = count
        ways.append("--present-only leaves out images that the run does not have")
    if by_name:
        reasons[f"of categories that are not classes of the run ({named(by_name)})"] = (
            by_name.total()
        )
        ways.append("--classes renames the run's classes to the categories")
    lost = np.count_nonzero(without_class | (without_image & counted)) + truth.left_out.total()
    every = np.count_nonzero(counted) + truth.left_out.total()
    if 2 * lost > every:
        raise UsageError(
            f"{lost:,} of {every:,} annotations of {truth.url} have nothing in {output.url} to be "
            f"compared with: {told(reasons)}; "
            f"{'; '.join(ways) or 'check that it is the right file'}"
        )
    return by_name


def named(names: Collection[str]) -> str:
    """Some names for a person."""
    shown = ", ".join(repr(words.printable(name, 100)) for name in list(names)[:NAMED])
    return shown + (", ..." if len(names) > NAMED else "")
