"""When a read is given up: soon for a bad object, late for a store that is away."""

from __future__ import annotations

import time

import pytest

from pipeline.stages import patience
from pipeline.stages.patience import Patience, Read


def answer(reads: Patience, uri: str = "s3://b/good") -> None:
    """Another read of the store comes to its end; later than whatever was before."""
    time.sleep(0.001)
    reads.read(uri).answered()
    time.sleep(0.001)


def verdicts(read: Read, count: int) -> list[bool]:
    return [read.failed() for _ in range(count)]


def test_one_bad_object_is_given_up_after_its_attempts() -> None:
    assert verdicts(Patience(attempts=3).read("s3://b/bad"), 3) == [False, False, True]


def test_bad_objects_of_a_store_that_answers_are_given_up() -> None:
    reads = Patience(attempts=3)
    bad, worse = reads.read("s3://b/bad"), reads.read("s3://b/worse")
    for ended in (False, False, True):
        answer(reads)
        assert (bad.failed(), worse.failed()) == (ended, ended)


def test_a_store_that_answers_nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Patience(attempts=3)
    one, two = reads.read("s3://b/one"), reads.read("s3://b/two")
    one.failed()
    assert not any(verdicts(two, 20)) and not any(verdicts(one, 20))
    # another store has its own silence
    assert verdicts(reads.read("s3://elsewhere/one"), 3) == [False, False, True]
    monkeypatch.setattr(patience, "OUTAGE_SECONDS", 0.0)
    assert one.failed() and two.failed()
    assert verdicts(reads.read("s3://b/three"), 3) == [False, False, True]


def test_a_store_that_goes_away_again_and_again_is_waited_for() -> None:
    """Also by reads that had begun before an answer, and by those that slept through one."""
    reads = Patience(attempts=4)
    one, two = reads.read("s3://b/one"), reads.read("s3://b/two")
    for _ in range(3):
        answer(reads)
        one.failed()
        assert not any(verdicts(two, 20)) and not any(verdicts(one, 20))
    answer(reads)
    assert one.failed() and two.failed()


def test_a_store_that_is_asked_too_often_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it answers others; one that refuses all is no better than one that fails."""
    reads = Patience(attempts=3)
    refused = reads.read("s3://b/refused")
    for _ in range(20):
        answer(reads)
        assert not refused.failed(throttled=True)
    assert verdicts(refused, 3) == [False, False, True]
    never = Patience(attempts=3).read("s3://b/never")
    assert [never.failed(throttled=True) for _ in range(3)] == [False, False, True]
    monkeypatch.setattr(patience, "OUTAGE_SECONDS", 0.0)
    assert refused.failed(throttled=True)


def test_only_the_latest_stores_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "STORES", 2)
    reads = Patience(attempts=1)
    for host in "abcb":
        read = reads.read(f"https://{host}/1.jpg")
        assert reads.read(f"https://{host}/2.jpg").store is read.store
    assert list(reads.stores) == ["https://c", "https://b"]
