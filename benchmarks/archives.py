"""Many small images as objects of their own, in tars and in zips, on one S3 server.

Each is listed, fetched and decoded by a whole run without a network, and gets its Parquet row.
Usage: `python -m benchmarks.archives [--images N] [--shard N] [--rounds N]`.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import platform
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import ray
from PIL import Image

from benchmarks.pipeline import NullEngine
from pipeline import Config, run
from pipeline.inputs import enumeration
from pipeline.inputs.containers.ranged import Ranged
from pipeline.outputs.layout import Layout
from pipeline.stages.fetch import Fetch
from tests.support import packed, seaweed
from tests.support.fetching import Silent

T = TypeVar("T")
BUCKET = "bench"
# of a run on a CPU
RANGE_ROWS = 256
SIDES = (64, 96)
FORMS = {
    "objects": "images/",
    "tar": "shards/*.tar",
    "zip": "shards/*.zip",
}


def jpegs(count: int) -> Iterator[packed.File]:
    """Noise of two sizes, 2 to 4 kB each."""
    random = np.random.default_rng(0)
    made = []
    for side in SIDES:
        for _ in range(32):
            small = Image.fromarray(random.integers(0, 256, (side // 4, side // 4, 3), np.uint8))
            buffer = io.BytesIO()
            small.resize((side, side)).save(buffer, "JPEG", quality=85)
            made.append(buffer.getvalue())
    for number in range(count):
        yield f"{number:07d}.jpg", made[number % len(made)]


def fill(s3: Any, count: int, shard: int) -> None:
    """Put the images there in each form."""
    s3.create_bucket(Bucket=BUCKET)
    files = list(jpegs(count))
    with ThreadPoolExecutor(8) as threads:
        put = threads.map(
            lambda file: s3.put_object(Bucket=BUCKET, Key=f"images/{file[0]}", Body=file[1]), files
        )
        list(put)
    for first in range(0, count, shard):
        some = files[first : first + shard]
        for kind, body in (("tar", packed.tar(some)), ("zip", packed.zipped(some))):
            s3.put_object(Bucket=BUCKET, Key=f"shards/{first:07d}.{kind}", Body=body)


class Counting(Silent):
    """A client that counts a fetch's requests, and nothing else."""

    reads = 0

    def add(self, **amounts: float) -> None:
        self.reads += int(amounts.get("reads", 0))


@dataclass
class Measured:
    """Of one form of the images.

    Attributes:
        listing: seconds.
        headers: requests for ranges within archives, of the listing.
        reads: requests of a fetch, in this process.
        fetching: seconds of that.
        run: seconds of a whole run, listing and start included.
    """

    listing: float
    headers: int
    reads: int
    fetching: float
    run: float


def measure(form: str, output: str) -> Measured:
    """A listing, a fetch and a whole run."""
    config = Config(
        input=f"s3://{BUCKET}/{FORMS[form]}",
        output=f"s3://{BUCKET}/{output}",
        weights="random:0",
        rows_per_file=4096,
    )
    fetched = replace(config, output=f"{config.output}-fetched")
    layout = Layout.of(fetched.output)
    requests: Counter[str] = Counter()
    fill_block = Ranged._fill

    def counted(file: Ranged) -> None:
        requests[form] += 1
        fill_block(file)

    with patch.object(Ranged, "_fill", counted):
        listing, known = seconds(lambda: enumeration.write(config, layout, ""))
    client, done = Counting(), ray.put(np.zeros(known.rows, bool))
    stage = Fetch(fetched, known, 0, done, client)  # type: ignore[arg-type]
    starts = list(range(0, known.rows, RANGE_ROWS))
    ranges = pa.table({"start": starts, "rows": [RANGE_ROWS] * len(starts)})
    fetching, rows = seconds(lambda: sum(table.num_rows for table in stage(ranges)))
    assert rows == known.rows
    whole, _ = seconds(lambda: run(config, NullEngine))
    return Measured(listing, requests[form], client.reads, fetching, whole)


def seconds(action: Callable[[], T]) -> tuple[float, T]:
    started = time.monotonic()
    result = action()
    return time.monotonic() - started, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--shard", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    cores = os.cpu_count() or 1
    found: dict[str, list[Measured]] = {form: [] for form in FORMS}
    with tempfile.TemporaryDirectory() as folder, seaweed.serve(Path(folder)) as s3:
        ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False)
        fill(s3, options.images, options.shard)
        for turn in range(options.rounds):
            for form in FORMS:
                found[form].append(measure(form, f"out-{form}-{turn}"))
        ray.shutdown()
    print(
        f"{platform.processor() or platform.machine()}, {cores} cores, {options.images} JPEGs, "
        f"{options.shard} in an archive, S3 server on the same cores"
    )
    print(
        "| form | listing, s | requests of it in archives | fetch, images/s | requests of it | "
        "run, images/s (median) | min to max |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    for form, rounds in found.items():
        listing = statistics.median(one.listing for one in rounds)
        fetch = options.images / statistics.median(one.fetching for one in rounds)
        rates = [options.images / one.run for one in rounds]
        print(
            f"| {form} | {listing:.1f} | {rounds[0].headers:,} | {fetch:,.0f} | "
            f"{rounds[0].reads:,} | {statistics.median(rates):,.0f} | "
            f"{min(rates):,.0f} to {max(rates):,.0f} |"
        )


if __name__ == "__main__":
    main()
