"""When a read is given up: soon for a bad object, late for a store that is away."""

from __future__ import annotations

import time
from typing import cast

import pytest
import tenacity

from pipeline import patience
from pipeline.patience import Patience


class Tried:
    """A read after some attempts."""

    def __init__(self, attempt: int) -> None:
        self.attempt_number = attempt
        self.start_time = time.monotonic()


def tried(attempt: int) -> tenacity.RetryCallState:
    return cast(tenacity.RetryCallState, Tried(attempt))


def test_one_bad_object_is_given_up_after_its_attempts() -> None:
    reads = Patience(attempts=3)
    assert [reads.ends("s3://b/bad", tried(n)) for n in (1, 2, 3)] == [False, False, True]


def test_bad_objects_of_a_store_that_answers_are_given_up() -> None:
    reads = Patience(attempts=3)
    first, second = tried(3), tried(3)
    reads.answered("s3://b/good")
    assert reads.ends("s3://b/bad", first) and reads.ends("s3://b/worse", second)


def test_a_store_that_answers_nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Patience(attempts=3)
    state, other = tried(9), tried(9)
    reads.ends("s3://b/one", state)
    assert not reads.ends("s3://b/two", other) and not reads.ends("s3://b/one", state)
    assert reads.ends("s3://elsewhere/one", other)  # another store has its own silence
    monkeypatch.setattr(patience, "OUTAGE_SECONDS", 0.0)
    assert reads.ends("s3://b/one", state)


def test_a_store_that_is_back_is_waited_for_again() -> None:
    reads = Patience(attempts=3)
    reads.ends("s3://b/one", tried(3))
    reads.answered("s3://b/two")
    time.sleep(0.01)
    state = tried(3)
    assert reads.ends("s3://b/one", state)  # alone in failing
    assert not reads.ends("s3://b/three", state)
