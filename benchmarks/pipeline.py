"""The pipeline without its network, beside Ray Data's own `read_images`, on one S3 bucket.

Both list a prefix, fetch, decode to RGB, and write one Parquet row an image; turn by turn in one
process, on the same Ray cluster. Usage: `python -m benchmarks.pipeline [--images N] [--rounds N]`.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import ray
import ray.data
import skimage

from pipeline import Config, run
from pipeline.network.contract import Boxes, Weights
from tests.support import seaweed

PHOTOGRAPHS = ("rocket.jpg", "retina.jpg", "hubble_deep_field.jpg")


class NullEngine:
    """Finds nothing, at once."""

    name = "fake"
    in_flight = 1

    def __init__(self, weights: Weights, device: str, threads: int, precision: str) -> None: ...

    def padded_shape(self, height: int, width: int) -> tuple[int, int]:
        return (0, 0)

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        empty = np.empty(0, np.float32)
        return [Boxes(empty.reshape(0, 4), empty.astype(np.int64), empty) for _ in images]


def fill(s3: Any, bucket: str, images: int) -> None:
    """Put so many photographs there: three, under different names."""
    folder = Path(skimage.__file__).parent / "data"
    contents = [(folder / name).read_bytes() for name in PHOTOGRAPHS]
    s3.create_bucket(Bucket=bucket)

    def put(number: int) -> None:
        body = contents[number % len(contents)]
        s3.put_object(Bucket=bucket, Key=f"images/{number:06d}.jpg", Body=body)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, range(images)))


def ours(bucket: str, output: str) -> None:
    config = Config(
        input=f"s3://{bucket}/images/",
        output=f"s3://{bucket}/{output}",
        weights="random:0",
        rows_per_file=4096,
    )
    run(config, NullEngine)


def read_images(bucket: str, output: str, fs: pyarrow.fs.FileSystem) -> None:
    def no_boxes(batch: dict[str, Any]) -> pa.Table:
        return pa.table({"path": batch["path"], "count": np.zeros(len(batch["path"]), np.int32)})

    rows = ray.data.read_images(
        f"{bucket}/images/", mode="RGB", include_paths=True, filesystem=fs
    ).map_batches(no_boxes)
    rows.write_parquet(f"{bucket}/{output}", filesystem=fs)


def seconds(action: Any, *arguments: Any) -> float:
    started = time.monotonic()
    action(*arguments)
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder, seaweed.serve(Path(folder)) as s3:
        ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False)
        fill(s3, "bench", options.images)
        fs = pyarrow.fs.S3FileSystem(
            access_key=seaweed.KEY,
            secret_key=seaweed.SECRET,
            scheme="http",
            endpoint_override=os.environ["AWS_ENDPOINT_URL"].removeprefix("http://"),
        )
        rates: dict[str, list[float]] = {"read_images": [], "ours": []}
        for turn in range(options.rounds):
            rates["read_images"].append(
                options.images / seconds(read_images, "bench", f"ray-{turn}", fs)
            )
            rates["ours"].append(options.images / seconds(ours, "bench", f"ours-{turn}"))
            for name in ("ray", "ours/detections/status=ok"):
                where = (
                    f"bench/{name.replace('ours', f'ours-{turn}').replace('ray', f'ray-{turn}')}"
                )
                rows = pq.read_table(where, filesystem=fs, partitioning=None).num_rows
                assert rows == options.images, (name, rows)
        ray.shutdown()
    print(
        f"{platform.processor() or platform.machine()}, {cores} cores, Python "
        f"{platform.python_version()}, Ray {ray.__version__}, {options.images} JPEGs, S3 server "
        f"on the same cores"
    )
    print("| path | images/s (median) | min to max | images/s a core |\n| --- | --- | --- | --- |")
    for name, found in rates.items():
        median = statistics.median(found)
        print(
            f"| {name} | {median:.1f} | {min(found):.1f} to {max(found):.1f} | "
            f"{median / cores:.1f} |"
        )
    ratios = [b / a for a, b in zip(rates["read_images"], rates["ours"], strict=True)]
    print(f"ratio ours/read_images, round by round: {', '.join(f'{r:.2f}' for r in ratios)}")


if __name__ == "__main__":
    main()
