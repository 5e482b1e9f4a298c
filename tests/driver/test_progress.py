"""What a person reads while a run goes on."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from pipeline.driver.progress import CALM_AFTER, CALM_SECONDS, LINE_SECONDS, Reporter
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
    reporter = Reporter(9000, 1000, Counter(empty=2, corrupt=1), replicas=2)
    assert reporter.line({}) == "1,000 of 9,000 images (11 %), starting, 3 errors"
    assert ", loading the network, " in reporter.line({}, "loading the network")
    reporter.changes.append((time.monotonic() - 10, 0, 3.0, 2))
    line = reporter.line({"images": 200, "errors": 1, "seconds_forward": 22.4})
    assert line.startswith("1,200 of 9,000 images (13 %), 20.0/s, 6 min ")
    assert line.endswith(" left, 4 errors, network 97 %") and len(line) < 80
    with caplog.at_level("INFO"):
        reporter.tell({"images": 200})
        assert not caplog.text  # not one each second
        reporter.told -= LINE_SECONDS
        reporter.tell({"images": 200})
        assert "1,200 of 9,000" in caplog.text
        reporter.began -= CALM_AFTER
        for since, lines in ((LINE_SECONDS, 1), (CALM_SECONDS, 2)):
            reporter.told = time.monotonic() - since
            reporter.tell({"images": 200})
            assert len(caplog.messages) == lines


@pytest.mark.parametrize(
    "before,now,busy", [(1, 4, 1.0), (2, 4, 0.75), (4, 4, 0.375), (4, 2, 0.75)]
)
def test_how_busy_replicas_are_that_have_just_come(before: int, now: int, busy: float) -> None:
    """Is not known until they have been there for a while; they are not taken for idle."""
    reporter = Reporter(9000, 0, replicas=now)
    reporter.changes.append((time.monotonic() - 10, 0, 0.0, before))
    pace = reporter.pace({"images": 200, "seconds_forward": 15.0})
    assert pace.busy == pytest.approx(busy, rel=0.01)


@pytest.mark.parametrize(
    "seen,rate,words",
    [
        ([(300, 5)], 0, "starting"),  # start-up is no part of it
        ([(300, 5), (310, 25)], 2, "2.0/s, 37 s left"),
        ([(0, 5), (300, 5), (400, 5)], 0, "starting"),
        # what it was before the last minute does not matter
        ([(0, 1), (100, 10), (160, 70), (190, 85)], 75 / 90, "1.2 s each, 18 s left"),
        ([(0, 1), (100, 2), (200, 3), (250, 3)], 1 / 150, "150.0 s each, 4 h 2 min left"),
    ],
)
def test_the_rate_is_that_of_the_last_minute(
    monkeypatch: pytest.MonkeyPatch, seen: list[tuple[int, int]], rate: float, words: str
) -> None:
    reporter = Reporter(images=100, finished=0)
    for now, images in seen:
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        pace = reporter.pace({"images": images})
    assert pace.images_per_second == pytest.approx(rate)
    assert f", {words}, 0 errors" in reporter.line({"images": seen[-1][1]})


def test_a_line_is_no_longer_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line that wraps could not be replaced by the next."""
    monkeypatch.setenv("COLUMNS", "80")
    reporter = Reporter(10**9, 10**8, Counter(empty=10**7))
    reporter.live = True
    reporter.changes.append((time.monotonic() - 10, 0, 0.0, 1))
    assert len(reporter.line({"images": 200_000})) > 80
    reporter.tell({"images": 200_000})
    assert len(capsys.readouterr().err.removeprefix("\r\033[K")) == 79


@pytest.mark.parametrize(
    "images,written,text",
    [
        (860, 1860, "1,860 images are written"),
        (924, 1860, "1,860 images are written, 64 that were begun will be processed again"),
        (1, 1000, "1,000 images are written, 1 that was begun will be processed again"),
        # figures of a killed process are too low
        (10, 1020, "1,020 images are written"),
    ],
)
def test_what_is_kept(images: int, written: int, text: str) -> None:
    assert Reporter(images=9000, finished=1000).kept({"images": images}, written) == text
