"""The engine's images through a whole run of `jobs.detect`, on one replica."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import ray
import torch

from pipeline.bench.extent import Extent
from pipeline.bench.report import EndToEnd
from pipeline.cluster.placement import RESERVED_CPUS
from pipeline.config import Config
from pipeline.driver.runner import run
from pipeline.errors import RunError
from pipeline.network.contract import Weights


def end_to_end(weights: Weights, encoded: Sequence[bytes], extent: Extent) -> EndToEnd:
    """Run it in a cluster of its own on this machine.

    Args:
        weights: of the network.
        encoded: images, repeated until there are `extent.piped`.
        extent: how much.

    Raises:
        RunError: an image failed.
    """
    if extent.device == "cuda":
        torch.cuda.empty_cache()  # the replica is another process
    with tempfile.TemporaryDirectory() as folder:
        config = _config(weights, encoded, extent, Path(folder))
        ray.init(
            "local",
            num_cpus=extent.threads,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        try:
            summary = run(config)
        finally:
            ray.shutdown()
        assert summary is not None
        if summary.errors:
            raise RunError(f"images failed in the run from end to end: {summary.errors}")
        record = json.loads(Path(config.output, "_run", "run.json").read_text())
        seconds = record["attempts"][-1]["seconds"]
        rate = _steady_rate(Path(config.output, "detections", "status=ok"))
    return EndToEnd(
        images=summary.images,
        seconds=seconds["wall"],
        images_per_second=rate,
        forward_images_per_second=summary.images / seconds["forward"],
    )


def _config(weights: Weights, encoded: Sequence[bytes], extent: Extent, folder: Path) -> Config:
    # on a CPU all cores that the row of the table had
    cpus = extent.threads - RESERVED_CPUS if extent.device == "cpu" else None
    return Config(
        input=str(_images(folder / "images", encoded, extent.piped)),
        output=str(folder / "output"),
        weights=_saved(weights, folder / "weights.pth"),
        model=weights.options,
        device=extent.device,
        replicas=1,
        cpus_per_replica=cpus,
        micro_batch=extent.micro_batch,
        rows_per_file=extent.rows_per_file,
    )


def _images(folder: Path, encoded: Sequence[bytes], number: int) -> Path:
    """A folder of so many JPEGs, links where they repeat."""
    folder.mkdir()
    for place in range(number):
        path = folder / f"{place:06d}.jpg"
        if place < len(encoded):
            path.write_bytes(encoded[place])
        else:
            path.hardlink_to(folder / f"{place % len(encoded):06d}.jpg")
    return folder


def _saved(weights: Weights, path: Path) -> str:
    torch.save({name: torch.tensor(array) for name, array in weights.state.items()}, path)
    return str(path)


def _steady_rate(folder: Path) -> float:
    """Images a second between the times at which the first and the last file were written."""
    files = sorted(folder.glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    images: int = sum(pq.read_metadata(path).num_rows for path in files[1:])
    return images / (files[-1].stat().st_mtime - files[0].stat().st_mtime)
