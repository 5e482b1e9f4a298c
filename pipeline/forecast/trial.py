"""A few images through the whole chain, to learn what all of them will take here."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.cluster.placement import Placement
from pipeline.config import Config, fingerprint
from pipeline.driver import record
from pipeline.driver.runner import run
from pipeline.errors import RunError
from pipeline.forecast.sample import Sample
from pipeline.images import tiling
from pipeline.inputs import enumeration
from pipeline.labels.output import open_output
from pipeline.network.contract import Weights
from pipeline.outputs.layout import Layout
from pipeline.words import count

COLUMNS = ("image_id", "image_bytes", "width", "height", "num_detections")


@dataclass(frozen=True)
class Trial:
    """What was found and how long it took.

    Attributes:
        placement: on what, of which the figures are.
        images: number of images tried.
        rows: `COLUMNS` of them.
        errors: number of the failed ones by error code.
        views: of a mean image that did not fail: one, or the whole and its tiles.
        start_up: seconds of the call in which no image was in work.
        fetch_seconds, decode_seconds, forward_seconds, write_seconds: of a mean image, failed ones
            among them, in one read, in one thread, in one replica, in one task; the first forward
            of a replica not counted.
    """

    placement: Placement
    images: int
    rows: pa.Table
    errors: Counter[str]
    views: float
    start_up: float
    fetch_seconds: float
    decode_seconds: float
    forward_seconds: float
    write_seconds: float


def try_out(config: Config, weights: Weights, placement: Placement, sample: Sample) -> Trial:
    """Run them as `config` says, on the cluster that is connected.

    The input is that of `config`, so that what may be read is judged as in the run to come.

    Raises:
        UsageError, RunError: as for a run.
    """
    mark = fingerprint(record.identity(config, weights))
    enumeration.write(config, Layout.of(config.output), mark, sample.source)
    started = time.monotonic()
    summary = run(config)
    assert summary
    wall = time.monotonic() - started
    output = open_output(config.output)
    did: dict[str, Any] = output.record["attempts"][-1]
    seconds: dict[str, float] = did["seconds"]
    errors = Counter(summary.errors)
    rows = pa.concat_tables(output.tables(COLUMNS))
    good = detected(rows)
    if not did["forwarded"] or not good.num_rows:
        raise RunError(_too_few(summary.images, sample.counted.rows, errors))
    views = _views(config, good)
    forward = seconds["forward"] / did["forwarded"] * views * good.num_rows / rows.num_rows
    work = forward * summary.images / placement.replicas
    return Trial(
        placement=placement,
        images=summary.images,
        rows=rows,
        errors=errors,
        views=views,
        start_up=max(0.0, wall - work),
        fetch_seconds=seconds.get("fetch", 0.0) / summary.images,
        decode_seconds=seconds.get("decode", 0.0) / summary.images,
        forward_seconds=forward,
        write_seconds=seconds.get("write", 0.0) / summary.images,
    )


def _too_few(tried: int, there: int, errors: Counter[str]) -> str:
    """Why nothing was measured, and what to do."""
    found = f": {', '.join(f'{code} {n:,}' for code, n in errors.most_common())}" if errors else ""
    advice = "give a larger --sample" if tried < there else "the input has no other images to try"
    failed = f"{errors.total():,} of {count(tried, 'image')} failed{found}"
    return (
        f"no forward was measured: {failed}, and the first forward of a replica does not count; "
        f"{advice}"
    )


def detected(rows: pa.Table) -> pa.Table:
    """Those of images that did not fail; others may have a size, too, by their headers."""
    return rows.filter(pc.is_valid(rows["num_detections"]))


def _views(config: Config, rows: pa.Table) -> float:
    """How often the network runs for a mean image of these."""
    sizes = zip(rows["height"].to_pylist(), rows["width"].to_pylist(), strict=True)
    views = [len(tiling.views(*size, config.tile, config.tile_overlap)) for size in sizes]
    return sum(views) / len(views)


def described(trial: Trial) -> str:
    """For instance `40 images on 1 replica on cpu, each 1.5 CPUs`."""
    placement = trial.placement
    share = f"{placement.gpus:g} GPU, " if placement.gpus else ""
    return (
        f"{count(trial.images, 'image')} on {count(placement.replicas, 'replica')} on "
        f"{placement.device}, each {share}{placement.cpus:g} CPUs"
    )
