"""The examples in docstrings."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from pipeline import errors, locations, options, words


@pytest.mark.parametrize("module", [words, errors, locations, options], ids=lambda module: module.__name__)
def test_examples(module: ModuleType) -> None:
    failed, attempted = doctest.testmod(module)
    assert attempted and not failed
