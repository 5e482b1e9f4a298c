"""An image larger than memory: peak memory of each kind of process, bytes read, the same boxes.

Usage: `python -m benchmarks.large [--side N] [--tile N] [--replicas N ...] [--json FILE]`. A tiled
TIFF, flat but for a pattern in every ninth tile, is put on an S3 server; a stand-in for the network
looks at every pixel.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import tifffile

from benchmarks.processes import Sampler
from pipeline import Config
from pipeline.cluster import placement
from pipeline.driver.runner import run
from pipeline.network.contract import Boxes
from tests.support import seaweed
from tests.support.engines import PixelEngine, middle
from tests.support.outputs import files, rows

# of the file's tiles
STORED = 256


class LookingEngine(PixelEngine):
    """The middle of each image, with a score of all of its pixels."""

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        return [middle(image) for image in images]


def stored_tiles(side: int) -> Iterator[np.ndarray]:
    """Flat ground that differs from tile to tile; in every ninth tile a pattern."""
    across = -(-side // STORED)
    pattern = np.random.default_rng(0).integers(0, 64, (STORED, STORED, 3), np.uint8)
    for number in range(across * across):
        tile = np.full((STORED, STORED, 3), 40 + number % 151, np.uint8)
        yield tile + pattern if number % 9 == 0 else tile


def measure(source: str, output: str, tile: int, replicas: int) -> dict[str, Any]:
    """A run with so many replicas; returns its figures."""
    # else this machine has room for two
    placement.REPLICA_MEMORY = 2**30
    ray.init("local", num_cpus=2 * replicas, include_dashboard=False, object_store_memory=2**30)
    config = Config(
        input=source,
        output=output,
        weights="random:0",
        tile=tile,
        replicas=replicas,
        cpus_per_replica=1,
        device="cpu",
    )
    began = time.monotonic()
    try:
        with Sampler() as sampler:
            run(config, LookingEngine)
    finally:
        ray.shutdown()
    record = json.loads(files(output)["_run/run.json"])
    read = record["attempts"][-1]["bytes_read"]
    return {
        "replicas": replicas,
        "seconds": round(time.monotonic() - began, 1),
        "bytes_read": read,
        "memory": sampler.memory(),
    }


def boxes(output: str) -> list[dict[str, Any]]:
    """Of the one image; checked to be one row that is `ok`."""
    (row,) = rows(output)
    assert row["status"] == "ok", row["error_message"]
    found: list[dict[str, Any]] = row["detections"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=40_000, metavar="PIXELS")
    parser.add_argument("--tile", type=int, default=1024, metavar="PIXELS")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 4], metavar="N")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    results, found = [], []
    with tempfile.TemporaryDirectory() as folder, seaweed.serve(Path(folder)) as s3:
        path = f"{folder}/large.tif"
        shape, stored = (options.side, options.side, 3), (STORED, STORED)
        tiles = stored_tiles(options.side)
        layout: dict[str, Any] = {"shape": shape, "dtype": np.uint8, "tile": stored}
        tifffile.imwrite(path, tiles, compression="zlib", bigtiff=True, **layout)
        size = os.path.getsize(path)
        print(f"{options.side}x{options.side} pixels, {size / 2**20:.0f} MiB", flush=True)
        s3.create_bucket(Bucket="large")
        s3.upload_file(path, "large", "images/large.tif")
        os.remove(path)
        for replicas in options.replicas:
            output = f"s3://large/out-{replicas}"
            result = measure("s3://large/images/", output, options.tile, replicas)
            result["share_read"] = round(result["bytes_read"] / size, 3)
            found.append(boxes(output))
            result["boxes"] = len(found[-1])
            results.append(result)
            print(json.dumps(result), flush=True)
    assert all(other == found[0] for other in found), "boxes differ with the number of replicas"
    print("the same boxes", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
