"""How much faster a prefix of an S3 bucket is listed by many requests at once.

Usage: `python -m benchmarks.listing [--keys N] [--milliseconds MS ...] [--made-up]`. A real S3
server on this machine, each of whose answers comes so much later, or answers that cost no more than
that.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.inputs import s3_listing
from pipeline.store import urls
from tests.support import seaweed

BUCKET = "listed"
PAGE_KEYS = 1000
Page = Callable[..., dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=50_000)
    parser.add_argument("--milliseconds", type=int, nargs="+", default=[0, 50, 150])
    parser.add_argument("--made-up", action="store_true")
    args = parser.parse_args()
    if args.made_up:
        _measure_all(None, _made_up(args.keys), args)
        return
    with tempfile.TemporaryDirectory() as folder, seaweed.serve(Path(folder)) as s3:
        s3.create_bucket(Bucket=BUCKET)
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda n: s3.put_object(Bucket=BUCKET, Key=_key(n)), range(args.keys)))
        _measure_all(urls.filesystem(f"s3://{BUCKET}")[0], s3_listing.page, args)


def _key(number: int) -> str:
    # in one folder, where the order of the server here is that of characters, too
    return f"images/{number:09d}.jpg"


def _made_up(keys: int) -> Page:
    def page(fs: Any, **request: Any) -> dict[str, Any]:
        after = request.get("ContinuationToken") or request.get("StartAfter", "")
        first = bisect_right(range(keys), after, key=_key)
        last = min(first + PAGE_KEYS, keys)
        found = [{"Key": _key(n), "Size": 150_000, "ETag": f"{n:032x}"} for n in range(first, last)]
        return {
            "Contents": found,
            "IsTruncated": last < keys,
            "NextContinuationToken": _key(last - 1),
        }

    return page


def _measure_all(fs: Any, page: Page, args: argparse.Namespace) -> None:
    for milliseconds in args.milliseconds:
        for way in (s3_listing._in_turn, s3_listing.in_ranges):
            requests: Counter[str] = Counter()

            def late(
                fs: Any, wait: float = milliseconds / 1000, asked: Any = requests, **request: Any
            ) -> dict[str, Any]:
                asked["pages"] += 1
                time.sleep(wait)
                return page(fs, **request)

            s3_listing.page, started = late, time.monotonic()
            names = [name for name, *_ in way(fs, BUCKET, "images/")]
            seconds = time.monotonic() - started
            assert names == [f"{BUCKET}/{_key(number)}" for number in range(args.keys)]
            print(
                f"{milliseconds} ms, {way.__name__}: {seconds:.1f} s, {requests['pages']} requests"
            )


if __name__ == "__main__":
    main()
