"""The examples in docstrings."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

PIPELINE = Path(__file__).parents[1] / "pipeline"
SHOWING = [path for path in sorted(PIPELINE.rglob("*.py")) if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", SHOWING, ids=lambda path: str(path.relative_to(PIPELINE)))
def test_examples(path: Path) -> None:
    name = ".".join(path.relative_to(PIPELINE.parent).with_suffix("").parts)
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted and not failed
