"""What a person is told before a run, and after it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from pipeline import words
from pipeline.cluster.placement import Placement
from pipeline.config import Config
from pipeline.driver.record import Record
from pipeline.network.contract import Weights
from pipeline.outputs.manifest import Manifest
from pipeline.store import urls

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What a finished run amounts to.

    Attributes:
        images: rows in the output.
        detections: boxes in the output.
        errors: number of failed images by error code.
        duplicates: rows of the input left out since their URI had come before.
        processed: images done by this call; 0 if the output was complete already.
        seconds: of this call.
        output: URL of the output.
        max_error_rate: as configured.
    """

    images: int
    detections: int
    errors: dict[str, int]
    duplicates: int
    processed: int
    seconds: float
    output: str
    max_error_rate: float

    @property
    def exit_code(self) -> int:
        """0, or 3 if more images failed than `max_error_rate` allows."""
        return 3 if sum(self.errors.values()) > self.max_error_rate * self.images else 0


def summarize(known: Record, config: Config, processed: int, started: float) -> Summary:
    """The summary of a run whose counts are known."""
    counts = known.counts or {}
    return Summary(
        images=counts["images"],
        detections=counts["detections"],
        errors=counts["errors"],
        duplicates=counts["duplicates"],
        processed=processed,
        seconds=time.monotonic() - started,
        output=config.output,
        max_error_rate=config.max_error_rate,
    )


def preview(config: Config, weights: Weights, placement: Placement, found: Manifest) -> None:
    """Say what is about to run."""
    repeated = f" ({found.duplicates:,} repeated URIs left out)" if found.duplicates else ""
    share = f"{placement.gpus:g} GPU, " if placement.gpus else ""
    untrained = "" if weights.trained else "; UNTRAINED, its boxes mean nothing"
    what = "the failures among " if config.retries_failures else ""
    source = urls.public(config.input)
    log.info("input     %s: %s%s%s", source, what, words.count(found.rows, "image"), repeated)
    log.info("weights   %s, sha256 %s%s", weights.model_id, weights.sha256[:12], untrained)
    each = f"each {share}{placement.cpus:g} CPUs; micro-batches of {placement.micro_batch}"
    log.info("replicas  %d on %s, %s", placement.replicas, placement.device, each)
    if placement.waiting:
        log.info("          %d of them wait for GPUs to come", placement.waiting)
    elif config.replicas and config.replicas > placement.replicas:
        wanted = config.replicas
        log.warning("          the cluster has no room for the %d that were asked for", wanted)
    log.info("output    %s", config.output)
