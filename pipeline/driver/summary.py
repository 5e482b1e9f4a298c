"""What a person is told before a run, and after it."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline import words
from pipeline.cluster.placement import Placement
from pipeline.config import Config
from pipeline.network.contract import Weights
from pipeline.outputs.boxes import read_boxes
from pipeline.outputs.manifest import Manifest
from pipeline.store import urls

if TYPE_CHECKING:
    from pipeline.driver.record import Record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What a finished run amounts to.

    Attributes:
        images: rows in the output.
        detections: boxes in the output.
        errors: number of failed images by error code.
        duplicates: rows of the input left out since their URI had come before.
        low_contrast: images of more than 8 bits a sample that use a 16th of the grey levels or
            less, as far as the attempts that came to their end have counted them.
        low_contrast_example: URI of one.
        processed: images done by this call; 0 if the output was complete already.
        seconds: of this call.
        output: URL of the output.
        max_error_rate: as configured.
    """

    images: int
    detections: int
    errors: dict[str, int]
    duplicates: int
    low_contrast: int
    low_contrast_example: str
    processed: int
    seconds: float
    output: str
    max_error_rate: float

    @property
    def exit_code(self) -> int:
        """0, or 3 if more images failed than `max_error_rate` allows."""
        return 3 if sum(self.errors.values()) > self.max_error_rate * self.images else 0

    def boxes(
        self, score_threshold: float = 0.0, categories: Collection[str] | None = None
    ) -> pa.Table:
        """All boxes of the run, a row for each; see `outputs.boxes.read_boxes`."""
        return read_boxes(self.output, score_threshold=score_threshold, categories=categories)


def summarize(known: Record, config: Config, processed: int, started: float) -> Summary:
    """The summary of a run whose counts are known."""
    counts = known.counts or {}
    low = [attempt["low_contrast"] for attempt in known.attempts if "low_contrast" in attempt]
    return Summary(
        images=counts["images"],
        detections=counts["detections"],
        errors=counts["errors"],
        duplicates=counts["duplicates"],
        low_contrast=sum(seen["images"] for seen in low),
        low_contrast_example=next((uri for seen in low for uri in seen["examples"]), ""),
        processed=processed,
        seconds=time.monotonic() - started,
        output=config.output,
        max_error_rate=config.max_error_rate,
    )


def preview(config: Config, weights: Weights, placement: Placement | None, found: Manifest) -> None:
    """Say what is about to run; without a placement it waits for its first GPU."""
    repeated = f" ({found.duplicates:,} repeated URIs left out)" if found.duplicates else ""
    untrained = "" if weights.trained else "; UNTRAINED, its boxes mean nothing"
    what = "the failures among " if config.retries_failures else ""
    source = urls.public(config.input)
    log.info("input     %s: %s%s%s", source, what, words.count(found.rows, "image"), repeated)
    log.info("weights   %s, sha256 %s%s", weights.model_id, weights.sha256[:12], untrained)
    if not weights.categories:
        unnamed = weights.options["num_classes"] - 1
        log.info("classes   %d without names (class_1 ...); --categories names them", unnamed)
    if placement:
        _preview_replicas(config, placement)
    else:
        waiting = "all of which wait for an autoscaler to add GPUs"
        log.info("replicas  %d on cuda, %s", config.replicas, waiting)
    log.info("output    %s", config.output)


def _preview_replicas(config: Config, placement: Placement) -> None:
    share = f"{placement.gpus:g} GPU, " if placement.gpus else ""
    each = f"each {share}{placement.cpus:g} CPUs; micro-batches of {placement.micro_batch}"
    log.info("replicas  %d on %s, %s", placement.replicas, placement.device, each)
    if placement.waiting:
        log.info("          %d of them wait for an autoscaler to add GPUs", placement.waiting)
    elif config.replicas and config.replicas > placement.replicas:
        wanted = config.replicas
        log.warning(
            "          the cluster has no room for the %d replicas that were asked for", wanted
        )
