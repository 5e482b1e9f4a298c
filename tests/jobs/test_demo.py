"""`jobs.demo` where something is missing."""

from __future__ import annotations

import sys

import pytest

from jobs import demo


def test_without_scikit_image(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told before the weights are downloaded."""
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setattr(demo, "usable_weights", lambda: pytest.fail("too early"))
    assert demo.main([]) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and "pip install '.[demo]' in the clone" in err and out == ""
