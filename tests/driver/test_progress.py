"""What a person reads while a run goes on."""

from __future__ import annotations

import time

import pytest

from pipeline.driver.progress import LINE_SECONDS, Reporter
from pipeline.words import duration


@pytest.mark.parametrize(
    "seconds,text",
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (189, "3 min 9 s"),
        (18_725, "5 h 12 min"),
        (183_600, "2 d 3 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line(caplog: pytest.LogCaptureFixture) -> None:
    reporter = Reporter(images=9000, finished=1000)
    assert reporter.line({}).endswith("starting, 0 errors")
    reporter.started = time.monotonic() - 10
    line = reporter.line({"images": 200, "errors": 1})
    assert line.startswith("1,200 of 9,000 images (13 %), 20.0 images/s, 6 min ")
    assert line.endswith(" left, 1 error")
    with caplog.at_level("INFO"):
        reporter.tell({"images": 200})
        assert not caplog.text  # not one each second
        reporter.told -= LINE_SECONDS
        reporter.tell({"images": 200})
    assert "1,200 of 9,000" in caplog.text
