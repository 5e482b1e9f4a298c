"""What was measured, as data and as Markdown."""

from __future__ import annotations

import dataclasses
import platform
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import PIL
import torch
import torchvision

from pipeline.bench.extent import Extent
from pipeline.bench.matching import LOOSE, TIGHT


def _versions() -> dict[str, str]:
    return {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "Pillow": PIL.__version__,
    }


@dataclass(frozen=True)
class Result:
    """One row of the table.

    Attributes:
        name: of the row.
        images_per_second: median of the rounds.
        rounds: images a second in each.
        ratio_to_eager: median of the ratios to the first row in the same round.
        arithmetic: `fp32`, `tf32` or `fp16`, in which its products are computed.
        share_of_floor: of the rate at which the network's products alone would run at the peak of
            that arithmetic.
        matched, matched_loosely: shares of the reference's detections that it gives as well.
        counts_differ: number of images with more or fewer detections than the reference.
        peak_memory: bytes on the GPU; None on a CPU.
        warm_up_seconds: before the first round.
    """

    name: str
    images_per_second: float
    rounds: list[float]
    ratio_to_eager: float
    arithmetic: str
    share_of_floor: float
    matched: float
    matched_loosely: float
    counts_differ: int
    peak_memory: int | None
    warm_up_seconds: float


@dataclass(frozen=True)
class EndToEnd:
    """A run of `jobs.detect` with one replica.

    Attributes:
        images: in the run.
        seconds: of the whole call.
        images_per_second: from the first file of rows to the last, so without start-up.
        forward_images_per_second: images over the seconds that the replica was in the network.
    """

    images: int
    seconds: float
    images_per_second: float
    forward_images_per_second: float


@dataclass(frozen=True)
class Report:
    """The whole measurement.

    Attributes:
        device: what it was done on.
        settings: of torch.
        model_id: of the weights.
        options: of the network.
        extent: how much was measured.
        sizes: (height, width) of each image.
        padded_shapes: number of different ones in the network.
        gflop_per_image: mean, each image padded by itself.
        peak_tflops: of this device, by arithmetic.
        reference_detections: number of them, in all images.
        rows: the table.
        pipeline: the run from end to end, if there was one.
        versions: of what computes.
    """

    device: str
    settings: str
    model_id: str
    options: dict[str, Any]
    extent: Extent
    sizes: list[tuple[int, int]]
    padded_shapes: int
    gflop_per_image: float
    peak_tflops: dict[str, float]
    reference_detections: int
    rows: list[Result]
    pipeline: EndToEnd | None = None
    versions: dict[str, str] = field(default_factory=_versions)

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    def row(self, name: str) -> Result:
        return next(row for row in self.rows if row.name == name)


def markdown(report: Report) -> str:
    """For a person: what it was measured on and how, the table, and what it says of the whole."""
    return "\n\n".join([_conditions(report), _table(report), *_remarks(report), *_pipeline(report)])


def _conditions(report: Report) -> str:
    extent, gpu = report.extent, report.extent.device == "cuda"
    sizes = Counter(f"{width}x{height}" for height, width in report.sizes).most_common()
    peaks = ", ".join(f"{name} {peak:.3g}" for name, peak in report.peak_tflops.items())
    options = ", ".join(f"{name} {value}" for name, value in report.options.items())
    least = f" of at least {extent.seconds:g} s" if extent.seconds else ""
    turns = f"{extent.rounds} turns{least}"
    return "\n".join(
        [
            f"- device: {report.device}",
            f"- {report.settings}",
            "- versions: " + ", ".join(f"{name} {text}" for name, text in report.versions.items()),
            f"- weights: {report.model_id}; {options}",
            f"- images: {extent.images} JPEGs in random order: "
            + ", ".join(f"{size} {count}" for size, count in sizes),
            f"- padded shapes: {report.padded_shapes}; {report.gflop_per_image:.0f} GFLOP an "
            "image, each padded by itself",
            f"- peak of matrix products, TFLOP/s: {peaks}",
            f"- each row: {turns} in rotation, over all images; batches of {extent.batch}, "
            f"the engine's of {extent.micro_batch}",
            f"- decoding threads, the same for every row: {extent.threads}"
            + ("" if gpu else "; the allocator is set for every row as for a replica"),
        ]
    )


def _table(report: Report) -> str:
    memory = report.extent.device == "cuda"
    head = [
        "row",
        "images/s",
        "min to max",
        "x eager",
        "arithmetic",
        "of its floor",
        "matched",
        "loosely",
        "counts differ",
        "warm-up, s",
        *["peak memory, GB"] * memory,
    ]
    lines = [head, ["---"] * len(head)]
    for row in report.rows:
        lines.append(
            [
                row.name,
                f"{row.images_per_second:.3g}",
                f"{min(row.rounds):.3g} to {max(row.rounds):.3g}",
                f"{row.ratio_to_eager:.2f}",
                row.arithmetic,
                f"{row.share_of_floor:.1%}",
                f"{row.matched:.2%}",
                f"{row.matched_loosely:.2%}",
                f"{row.counts_differ}",
                f"{row.warm_up_seconds:.1f}",
                *[f"{(row.peak_memory or 0) / 1e9:.2f}"] * memory,
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _remarks(report: Report) -> list[str]:
    alone = "with TF32 off" if report.extent.device == "cuda" else "on this CPU"
    found = [
        f"matched: share of the {report.reference_detections:,} detections of `model([image])`, "
        f"fp32 {alone}, that have one of the same label, IoU > {TIGHT[0]:g} and a score within "
        f"{TIGHT[1]:g}; loosely: IoU > {LOOSE[0]:g} and within {LOOSE[1]:g}; counts differ: images "
        "with another number of detections. Floor: the products of the direct convolutions at the "
        "peak of the row's arithmetic; Winograd's algorithm, on a CPU, needs fewer."
    ]
    if report.extent.device == "cpu":
        return [*found, "No autocast row: half precision is measured on a GPU only."]
    eager = report.row("eager")
    noise = (
        f"Noise floor: torchvision's own default, TF32 convolutions, gives {eager.matched:.2%} of "
        f"the reference's detections, {eager.matched_loosely:.2%} loosely, and another number of "
        f"them in {eager.counts_differ} of {report.extent.images} images."
    )
    return [*found, noise]


def _pipeline(report: Report) -> list[str]:
    run = report.pipeline
    if run is None:
        return []
    return [
        f"End to end, `jobs.detect` with one replica on {run.images:,} of these JPEGs in a folder: "
        f"{run.images_per_second:.3g} images/s from the first file of rows to the last, "
        f"{run.images / run.seconds:.3g} over the whole call with its start-up; its forward alone "
        f"{run.forward_images_per_second:.3g}. The rates of the table are of another time, so no "
        "share is made of them."
    ]
