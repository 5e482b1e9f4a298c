"""Listings of a prefix, many pages at once, beside the keys that there are."""

from __future__ import annotations

import random
import time
from bisect import bisect_left, bisect_right
from concurrent.futures import wait
from typing import Any

import pytest

from pipeline.inputs import s3_listing
from pipeline.inputs.s3_listing import in_ranges, is_ordered
from pipeline.store import urls

# of a prefix of another, at the ends of what UTF-8 can encode, and on both sides of a slash
LETTERS = "aab0159/ -.!~ü\ud7ff\ue000\uffff😀\U0010ffff"


class Store:
    """What Amazon S3 answers for a bucket of sorted keys, in pages of a few, after a while."""

    def __init__(self, keys: list[str], page: int, seed: int) -> None:
        self.keys, self.page, self.random = sorted(keys), page, random.Random(seed)
        self.requests = 0

    def __call__(self, fs: Any, **request: Any) -> dict[str, Any]:
        self.requests += 1
        time.sleep(self.random.random() / 500)
        after, prefix = request.get("StartAfter", ""), request["Prefix"]
        start = max(bisect_right(self.keys, after) if after else 0, bisect_left(self.keys, prefix))
        there = [key for key in self.keys[start:] if key.startswith(prefix)]
        found = [{"Key": key, "Size": 1} for key in there[: self.page]]
        return {"Contents": found, "IsTruncated": len(there) > len(found)}


def listed(monkeypatch: pytest.MonkeyPatch, store: Any, prefix: str) -> list[str]:
    monkeypatch.setattr(s3_listing, "page", store)
    return [name.removeprefix("bucket/") for name, *_ in in_ranges(None, "bucket", prefix)]


@pytest.mark.parametrize("seed", range(12))
def test_any_keys(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """All of them in their order, with few pages waiting."""
    chance = random.Random(seed)
    letters = LETTERS if seed % 2 else "0123456789"
    keys = {
        "p/" + "".join(chance.choices(letters, k=chance.randrange(1, 3 + seed))) for _ in range(900)
    }
    store = Store([*keys, "o", "p", "p.", "p0", "q"], chance.randrange(2, 12), seed)
    waiting = []
    ask = s3_listing._ask

    def watched(fs: Any, bucket: str, prefix: str, ranges: Any, threads: Any) -> None:
        ask(fs, bucket, prefix, ranges, threads)
        waiting.append(sum(len(r.pages) for r in ranges))

    monkeypatch.setattr(s3_listing, "_ask", watched)
    monkeypatch.setattr(s3_listing, "ALL_AHEAD", 40)
    assert listed(monkeypatch, store, "p/") == sorted(keys)
    assert max(waiting) < 40 + s3_listing.REQUESTS


def test_pages_come_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store([f"images/2026/11/{number:06d}.jpg" for number in range(4000)], 10, 0)
    rounds = []

    def watched(asked: Any, **how: Any) -> Any:
        rounds.append(len(asked))
        return wait(asked, **how)

    monkeypatch.setattr(s3_listing, "wait", watched)
    assert listed(monkeypatch, store, "") == store.keys
    assert store.requests < 2.5 * 400 and max(rounds) == s3_listing.REQUESTS


def test_one_page_is_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(["a", "b"], 1000, 0)
    assert listed(monkeypatch, store, "") == ["a", "b"]
    assert listed(monkeypatch, store, "c") == []
    assert store.requests == 2


@pytest.mark.parametrize("disorder", ["backwards", "from the start"])
def test_a_store_of_another_order(monkeypatch: pytest.MonkeyPatch, disorder: str) -> None:
    store = Store([f"{number:04d}" for number in range(500)], 10, 0)

    def page(fs: Any, **request: Any) -> dict[str, Any]:
        if disorder == "from the start":
            request.pop("StartAfter", None)
        found = store(fs, **request)
        return found | ({"Contents": found["Contents"][::-1]} if disorder == "backwards" else {})

    with pytest.raises(OSError, match="lists its keys out of order"):
        listed(monkeypatch, page, "")


def test_a_store_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store([f"{number:04d}" for number in range(500)], 10, 0)

    def page(fs: Any, **request: Any) -> dict[str, Any]:
        if store.requests > 20:
            raise PermissionError("no more")
        return store(fs, **request)

    with pytest.raises(PermissionError):
        listed(monkeypatch, page, "")


def test_which_stores_are_known_for_their_order(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_ordered(urls.filesystem("s3://bucket")[0], "bucket")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    fs = urls.filesystem("s3://bucket", connections=63)[0]
    assert is_ordered(fs, "bucket")
    for bucket in ("b--usw2-az1--x-s3", "arn:aws:s3:us-east-1:1:accesspoint/a", "a.mrap"):
        assert not is_ordered(fs, bucket)
