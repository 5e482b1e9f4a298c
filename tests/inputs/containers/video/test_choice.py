"""Which frames are chosen."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pipeline.inputs.containers.video.choice import Choice
from pipeline.inputs.containers.video.timeline import Timeline


def timeline(stamps: list[int], base: Fraction) -> Timeline:
    found = np.array(stamps, np.int64)
    return Timeline(found, found[np.arange(len(found)) // 4 * 4], found, base, 1, 1, None, 0)


def at_rate(frames: int, rate: Fraction | int) -> Timeline:
    return timeline([round(90000 * n / rate) + 777 for n in range(frames)], Fraction(1, 90000))


@pytest.mark.parametrize(
    "fps, chosen",
    [
        (2, [0, 12, 25, 37, 50]),  # 12 is shown at 0.48 s, 13 not before 0.52 s
        (1, [0, 25, 50]),
        (0.5, [0, 50]),
        (26, list(range(60))),
        (25, list(range(60))),
        (12.5, list(range(0, 60, 2))),
        (100, list(range(60))),
    ],
)
def test_the_frame_that_is_shown_at_each_moment(fps: float, chosen: list[int]) -> None:
    assert Choice(fps=fps).of(at_rate(60, 25)).tolist() == chosen


def test_moments_against_the_rule_itself() -> None:
    """No frame twice, and the last one for as long as the one before it."""
    rng = np.random.default_rng(7)
    for fps in (0.3, 1, 2, 3.7, 29.97):
        gaps = rng.choice([3, 15, 40, 1000, 7000], 50)
        found = timeline(np.cumsum(gaps).tolist(), Fraction(1, 1000))
        seconds = found.seconds
        end = 2 * seconds[-1] - seconds[-2] - 0.0005
        moments = np.arange(0, end, 1 / fps)
        shown = np.searchsorted(seconds, moments + 0.0005, side="right") - 1
        assert Choice(fps=fps).of(found).tolist() == np.unique(shown).tolist()


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), 30, 24, 60])
def test_whole_milliseconds_lose_no_frame(rate: Fraction | int) -> None:
    """As Matroska rounds: half of the stamps are later than the moment."""
    stamps = [round(1000 * n / rate) for n in range(500)]
    every = Choice(fps=float(rate)).of(timeline(stamps, Fraction(1, 1000)))
    assert every.tolist() == list(range(500))


def test_every_nth_and_keyframes() -> None:
    assert Choice(every_nth=25).of(at_rate(60, 25)).tolist() == [0, 25, 50]
    assert Choice(keyframes=True).of(at_rate(10, 25)).tolist() == [0, 4, 8]


def test_more_than_there_are() -> None:
    found = at_rate(60, 25)
    assert Choice(fps=26).exceeds(found)
    assert not Choice(fps=25).exceeds(found)
    assert not Choice(every_nth=1).exceeds(found)
