"""Peak memory of each kind of process on photographs of 12 and 48 megapixels.

Usage: `python -m benchmarks.memory [--small N] [--large N] [--store-gb X] [--gpus N] [--network]
[--s3] [--table] [--json FILE]`. The real run, its memory settings as it chooses them, and a
stand-in for the network that looks at every pixel.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import re
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import ray
import skimage
from PIL import Image

from benchmarks import processes
from pipeline import Config
from pipeline.cluster import connection
from pipeline.driver.runner import run
from pipeline.network.contract import EngineFactory
from pipeline.network.engine import Engine
from tests.support import seaweed
from tests.support.engines import PixelEngine

PHOTOGRAPHS = (
    "rocket.jpg",
    "retina.jpg",
    "hubble_deep_field.jpg",
    "coffee.png",
    "chelsea.png",
    "astronaut.png",
)
SIZES = {"small": (4000, 3000), "large": (8000, 6000)}
# of the standard deviation and quality that give files of 4 and 15 MB
NOISE, QUALITY = 10.0, 90
GIB = 2**30


def write_photographs(folder: Path, counts: dict[str, int]) -> list[int]:
    """Enlarged photographs with a camera's noise; returns the files' sizes in bytes.

    A few different ones of each size; the rest are copies under names of their own.
    """
    random = np.random.default_rng(0)
    source = Path(skimage.__file__).parent / "data"
    folder.mkdir()
    for kind, count in counts.items():
        made: list[Path] = []
        for number in range(count):
            path = folder / f"{kind}-{number:04d}.jpg"
            if number < len(PHOTOGRAPHS):
                photograph = Image.open(source / PHOTOGRAPHS[number]).convert("RGB")
                pixels = np.asarray(photograph.resize(SIZES[kind], Image.Resampling.BICUBIC))
                noise = random.standard_normal(pixels.shape, np.float32) * NOISE
                noisy = np.clip(pixels + noise, 0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(path, quality=QUALITY)
                made.append(path)
            else:
                shutil.copyfile(made[number % len(made)], path)
    return [path.stat().st_size for path in folder.iterdir()]


def upload(s3: Any, folder: Path) -> str:
    """The photographs in a bucket; returns its URL."""
    s3.create_bucket(Bucket="photographs")
    for path in folder.iterdir():
        s3.upload_file(str(path), "photographs", f"images/{path.name}")
    return "s3://photographs/images/"


def in_logs(logs: Path, pattern: str) -> int:
    """Number of lines in the raylets' logs that match."""
    found = 0
    for path in logs.glob("raylet*.[oe]*"):
        with open(path, errors="replace") as file:
            found += sum(1 for line in file if re.search(pattern, line))
    return found


def start(store_gb: float | None, gpus: int) -> Path:
    """A cluster of this machine alone, as a run would start it but for what is given.

    Args:
        store_gb: GiB of the object store; None for as Ray chooses.
        gpus: logical GPUs, with CPUs for a replica on each; 0 for a cluster without.

    Returns:
        The folder of its logs.
    """
    store = int(store_gb * GIB) if store_gb else None
    cpus = (os.cpu_count() or 1) * max(1, 4 * gpus) if gpus else None
    context: Any = ray.init(
        "local",
        num_cpus=cpus,
        num_gpus=gpus or None,
        object_store_memory=store,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    return Path(context.address_info["session_dir"], "logs")


def measure(config: Config, engine: EngineFactory, logs: Path) -> dict[str, Any]:
    """Run it on the cluster that is there, whose logs are given; the figures."""
    store = sum(node["object_store_memory"] for node in connection.alive())
    processes.reset_peak()
    started = time.monotonic()
    with processes.Sampler(0.1) as sampler:
        summary = run(config, engine)
    assert summary and not summary.errors, summary
    record = json.loads(Path(config.output, "_run", "run.json").read_text())
    return {
        "images": summary.images,
        "seconds": round(time.monotonic() - started, 1),
        "placement": record["attempts"][-1]["placement"],
        "object store MiB": int(store) >> 20,
        "object store MiB at most": sampler.store_peak >> 20,
        "spilled MiB": sampler.spilled >> 20,
        "spill lines in logs": in_logs(logs, "Spilled"),
        "OOM lines in logs": in_logs(logs, r"\(OOM\)|memory pressure"),
        "memory": sampler.memory(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=60, help="photographs of 12 megapixels")
    parser.add_argument("--large", type=int, default=20, help="photographs of 48 megapixels")
    parser.add_argument("--store-gb", type=float, help="object store (default: as Ray chooses)")
    parser.add_argument("--gpus", type=int, default=0, help="logical GPUs, a replica on each")
    parser.add_argument("--network", action="store_true", help="with the real network, untrained")
    parser.add_argument("--s3", action="store_true", help="through an S3 server on this machine")
    parser.add_argument("--table", action="store_true", help="named by a list, without their sizes")
    parser.add_argument("--json", help="write the figures there, too")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sizes = write_photographs(folder / "images", {"small": given.small, "large": given.large})
        source = str(folder / "images")
        if given.s3:
            (folder / "s3").mkdir()
            source = upload(stack.enter_context(seaweed.serve(folder / "s3")), folder / "images")
        if given.table:
            names = sorted(path.name for path in (folder / "images").iterdir())
            uris = [f"{source.rstrip('/')}/{name}\n" for name in names]
            source = str(folder / "list.txt")
            Path(source).write_text("".join(uris))
        logs = start(given.store_gb, given.gpus)
        config = Config(
            input=source,
            output=f"{folder}/out",
            weights="random:0",
            device="cuda" if given.gpus else "cpu",
        )
        result = measure(config, Engine if given.network else PixelEngine, logs)
        ray.shutdown()
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, Ray {ray.__version__}; "
        f"{given.small} photographs of 12 megapixels and {given.large} of 48, "
        f"{min(sizes) / 1e6:.1f} to {max(sizes) / 1e6:.1f} MB"
    )
    memory = result.pop("memory")
    print("\n".join(f"- {name}: {value}" for name, value in result.items()))
    print(processes.table([{"process": kind} | row for kind, row in memory.items()]))
    if given.json:
        Path(given.json).write_text(json.dumps(result | {"memory": memory}, indent=2))


if __name__ == "__main__":
    main()
