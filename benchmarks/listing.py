"""How much faster a prefix of an S3 bucket is listed by many requests at once.

Usage: `python -m benchmarks.listing [--keys N] [--milliseconds MS ...]`. A real S3 server on this
machine, each of whose answers comes so much later.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.inputs import s3_listing
from pipeline.store import urls
from tests.support import seaweed

BUCKET = "listed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=50_000)
    parser.add_argument("--milliseconds", type=int, nargs="+", default=[0, 50, 150])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, seaweed.serve(Path(folder)) as s3:
        s3.create_bucket(Bucket=BUCKET)
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda number: _put(s3, number), range(args.keys)))
        for milliseconds in args.milliseconds:
            for way in (s3_listing._in_turn, s3_listing.in_ranges):
                _measure(way, args.keys, milliseconds)


def _put(s3: Any, number: int) -> None:
    # in one folder, where the order of this server is that of characters, too
    key = f"images/{number:09d}.jpg"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"1")


def _measure(way: Any, keys: int, milliseconds: int) -> None:
    requests: Counter[str] = Counter()
    page = s3_listing.page

    def late(fs: Any, **request: Any) -> dict[str, Any]:
        requests["page"] += 1
        time.sleep(milliseconds / 1000)
        return page(fs, **request)

    fs = urls.filesystem(f"s3://{BUCKET}")[0]
    s3_listing.page, started = late, time.monotonic()
    names = [name for name, *_ in way(fs, BUCKET, "images/")]
    seconds = time.monotonic() - started
    s3_listing.page = page
    assert names == sorted(set(names)) and len(names) == keys
    print(f"{milliseconds} ms, {way.__name__}: {seconds:.1f} s, {requests['page']} requests")


if __name__ == "__main__":
    main()
