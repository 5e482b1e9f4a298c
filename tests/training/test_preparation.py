"""Categories of annotations, and classes of the network."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.labels.truth import Truth
from pipeline.training import preparation
from pipeline.training.start import Start


def ids(category_ids: dict[str, int], *classes: str) -> dict[int, int]:
    """Label to category id."""
    start = Start({}, {}, dict(enumerate(classes, start=1)), [], "", False, 3)
    return preparation._ids(Truth("t", category_ids=category_ids), start)


def test_ids_may_be_large() -> None:
    found = ids({"cat": 0, "Dog": 10**13, "cow": 7}, "dog", "cat", "bird")
    assert found == {1: 10**13, 2: 0}
    labels = {category: label for label, category in found.items()}
    assert preparation._labelled(np.array([0, 10**13]), labels).tolist() == [2, 1]


@pytest.mark.parametrize(
    "category_ids,classes,words",
    [
        ({"cat": 1, "Cat": 2}, ["cat"], "the categories 'cat' and 'Cat', .* rename one"),
        ({"Cat": 1, "CAT": 2}, ["cat"], "the categories 'Cat' and 'CAT', .* rename one"),
        ({"Cat": 1}, ["cat", "CAT"], "could be the class 'cat' of the network or 'CAT': rename"),
        ({"cat": -5}, ["cat"], "category 'cat' of t has the id -5: ids must not be below 0"),
    ],
)
def test_a_category_without_a_class_of_its_own(
    category_ids: dict[str, int], classes: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        ids(category_ids, *classes)


def test_classes_that_differ_in_case_alone() -> None:
    assert ids({"cat": 1, "Cat": 2}, "Cat", "cat") == {1: 2, 2: 1}
    assert ids({"cup": 1, "Cup": 2}, "cat") == {}
