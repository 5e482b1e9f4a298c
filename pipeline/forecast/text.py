"""The text of `jobs.plan`: what a trial found, and what all of the images will take."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from pipeline import words
from pipeline.config import ROWS_PER_FILE, Config
from pipeline.forecast import estimates
from pipeline.forecast.prices import Machine, Prices
from pipeline.forecast.trial import Trial, described, detected
from pipeline.images import tiling
from pipeline.inputs.enumeration import Counted
from pipeline.network.contract import Weights
from pipeline.network.cost import Cost
from pipeline.outputs.manifest import Manifest
from pipeline.store import urls
from pipeline.words import count, duration, rate

GPUS = (1, 8, 64)
SIZES = 8


def text(
    config: Config,
    weights: Weights,
    counted: Counted,
    trial: Trial,
    prices: Prices,
    tried: Machine | None,
) -> str:
    """
    Args:
        config: of the run that is planned.
        weights: of it.
        counted: what the input holds.
        trial: of some of it.
        prices: of other machines.
        tried: the one in `prices` whose GPU the trial had.
    """
    parts = [
        _input(config, counted, trial),
        _here(config, counted.rows, trial),
        _elsewhere(config, weights, counted.rows, trial, prices, tried),
        _settings(config, counted.rows, trial),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts)


def _sizes(rows: pa.Table) -> Counter[tuple[int, int]]:
    """(width, height) of the images of which it is known, and how many have it."""
    columns = (rows[name].to_pylist() for name in ("width", "height"))
    return Counter(size for size in zip(*columns, strict=True) if size[0])


def _gflop(config: Config, weights: Weights, trial: Trial) -> float:
    """Of a mean image in the network, with its tiles; of those that fail nothing."""
    cost, sizes = Cost(weights.options), _sizes(detected(trial.rows))
    total = 0.0
    for (width, height), images in sizes.items():
        whole, *tiles = tiling.views(height, width, config.tile, config.tile_overlap)
        for views in ([whole], tiles):
            for x0, y0, x1, y1 in views[:1]:
                shape = cost.padded_shape(int(y1 - y0), int(x1 - x0))
                total += images * len(views) * cost.gflop(shape)
    return total / trial.images


def _input(config: Config, counted: Counted, trial: Trial) -> list[str]:
    read = [size for size in trial.rows["image_bytes"].to_pylist() if size]
    size, about = counted.known_bytes, ""
    if not size:
        size, about = sum(read) // max(1, len(read)) * counted.rows, "about "
    pixels = ", counting frames of videos as their decoded pixels" if config.reads_videos else ""
    sizes = _sizes(trial.rows)
    common = [f"{w}x{h} {n / trial.images:.0%}" for (w, h), n in sizes.most_common(SIZES)]
    if len(sizes) > SIZES:
        common.append(f"{len(sizes) - SIZES:,} others")
    found = sum(n or 0 for n in trial.rows["num_detections"].to_pylist())
    share = trial.errors.total() / trial.images
    codes = ", ".join(f"{code} {count:,}" for code, count in trial.errors.most_common())
    lines = [
        f"input       {urls.public(config.input)}",
        f"images      {counted.rows:,}, {about}{words.size(size)}{pixels}",
        f"tried       {described(trial)}",
        f"sizes       {', '.join(common)}",
        f"detections  {found / trial.images:.1f} per image",
        f"errors      {share:.1%}" + (f" ({codes})" if codes else ""),
    ]
    if config.tile:
        lines.insert(4, f"views       {trial.views:,.1f} per image: the whole of it, and its tiles")
    if counted.duplicates:
        lines.insert(2, f"repeated    {counted.duplicates:,} URIs, left out")
    if share > config.max_error_rate:
        lines.append(
            f"            more than --max-error-rate {config.max_error_rate:g} allows: the run "
            "would end"
        )
    return lines


def _here(config: Config, images: int, trial: Trial) -> list[str]:
    rates = estimates.here(trial, config)
    lines = ["images/s of one replica here, if nothing else took time:"]
    for part, value in vars(rates).items():
        mark = "   the bottleneck" if part == rates.bottleneck else ""
        lines.append(f"  {part:<9} {rate(value):>10}{mark}")
    whole = estimates.run_seconds(images, rates, trial.placement.replicas, trial.start_up)
    start = duration(trial.start_up)
    return [*lines, f"all images here: {duration(whole)}, {start} of it to start"]


def _elsewhere(
    config: Config,
    weights: Weights,
    images: int,
    trial: Trial,
    prices: Prices,
    tried: Machine | None,
) -> list[str]:
    options, gflop = weights.options, _gflop(config, weights, trial)
    heads = "".join(f"{count(n, 'GPU'):>20}" for n in GPUS)
    lines = [
        f"estimates for other machines, at {gflop:,.0f} GFLOP per image:",
        f"{'':14}{'images/s a GPU':>15}{heads}   limit",
    ]
    for machine in prices.machines:
        rates = estimates.elsewhere(machine, trial, config, options, gflop, tried)
        cells = ""
        for gpus in GPUS:
            seconds = estimates.run_seconds(images, rates, gpus, trial.start_up)
            dollars = estimates.machine_dollars(machine, gpus, seconds)
            cost = f"${dollars:,.0f}" if dollars >= 100 else f"${dollars:.2f}"
            cells += f"{f'{duration(seconds)}, {cost}':>20}"
        lines.append(f"{machine.name:14}{rate(rates.least):>15}{cells}   {rates.bottleneck}")
    if tried:
        network = f"as on this {tried.gpu}, by the TFLOP/s that each reaches; "
    else:
        network = (
            f"as measured on an {estimates.MEASURED_ON}; on the others, not measured, at the same "
            "share of their peak.\n"
        )
    lines.append(f"network: {network}decoding: as on these cores")
    lookup = "from memory, not looked up; give your own table with --prices FILE"
    lines.append(f"prices: {prices.source or lookup}")
    if config.input.startswith("s3://"):
        rows_per_file = config.rows_per_file or ROWS_PER_FILE["cuda"]
        asked = estimates.request_dollars(images, rows_per_file, prices.requests)
        lines.append(f"requests to the bucket, one read per image: ${asked:,.2f} on top of that")
    return lines


def _settings(config: Config, images: int, trial: Trial) -> list[str]:
    rates, whole = estimates.here(trial, config), Manifest(images, 0, [])
    lines = [
        "settings for this hardware:",
        f"  fetch_concurrency {estimates.reads_for(rates, trial)}, instead of "
        f"{config.fetch_concurrency}: reads in flight in each fetch actor",
        f"  slices {len(whole.slices):,}, of at most {whole.slice_rows:,} images",
    ]
    if trial.placement.gpus:
        lines.insert(
            1,
            f"  --cpus-per-replica {estimates.cpus_for(rates, trial)}, instead of "
            f"{trial.placement.cpus:g}: cores that decode as fast as the network takes images",
        )
    return lines
