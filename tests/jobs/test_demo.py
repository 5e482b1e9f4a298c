"""`jobs.demo` where something is missing."""

from __future__ import annotations

import sys

import pytest

from jobs import demo


def test_without_scikit_image(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert demo.main([]) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and "pip install 'prelabel[demo]'" in err and out == ""
