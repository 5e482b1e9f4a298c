"""A run whose input and output are there: begun, resumed or refreshed, to its summary."""

from __future__ import annotations

import dataclasses
import logging
from functools import partial

import ray

from pipeline.cluster import connection
from pipeline.config import Config, fingerprint
from pipeline.driver import attempt, record, refresh
from pipeline.driver.record import Record
from pipeline.driver.summary import Summary, preview, summarize
from pipeline.errors import RunError, UsageError
from pipeline.inputs import enumeration
from pipeline.network.contract import EngineFactory, Weights
from pipeline.network.weights import resolve
from pipeline.outputs import manifest, seal
from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import Lease, LeaseLost
from pipeline.store import objects
from pipeline.words import explain

log = logging.getLogger(__name__)
# Ray Data adds to an error's message how to have such errors retried, which the stages do
RAYS_ADVICE = "Failed to apply UDF transform"


def start(
    config: Config, make_engine: EngineFactory, dry_run: bool, refresh: bool, started: float
) -> Summary | None:
    """What `runner.run` does once its checks have passed; `started` is when it was called."""
    log.info("reading the weights")  # from far away that can take longer than all before
    weights = resolve(config, partial(objects.read, reading=config.reading))
    layout = Layout.of(config.output)
    known = record.existing(layout, config, weights)
    config = record.continued(known, config) if known else config
    if _refreshed(config, layout, known, dry_run, refresh) and dry_run:
        return None
    if complete := _complete(config, layout, known):
        return summarize(complete, config, 0, started)
    log.info("starting Ray, or joining its cluster")
    connection.connect()
    if dry_run:
        _preview(config, weights, layout, known)
        return None
    return _execute(config, weights, layout, make_engine, started)


def _refreshed(
    config: Config, layout: Layout, known: Record | None, dry_run: bool, wanted: bool
) -> bool:
    """Whether the input was listed again, as is wanted or as an earlier call has begun to."""
    if known and not wanted:
        wanted = objects.get(layout.fs, layout.refreshing) is not None
        if wanted and config.retries_failures:
            raise UsageError(
                f"a --refresh of {config.output} was interrupted; complete it first, by the same "
                "command with the --input of the run"
            )
    if wanted:
        refresh.check(config)
        if known:
            refresh.refresh(config, layout, fingerprint(known.identity), dry_run)
    return bool(wanted and known)


def _complete(config: Config, layout: Layout, known: Record | None) -> Record | None:
    """The record, if the output is as the run would leave it, which is then said."""
    # an attempt that is killed as it begins takes the counts away, and `_SUCCESS` not yet
    counts = known.counts if known and not known.retry_from else None
    if known and counts and objects.get(layout.fs, layout.success) is not None:
        if not config.retries_failures:
            if _has_changed(layout, known):
                log.info(
                    "files of %s were added or removed after it was complete; checking it",
                    config.output,
                )
                return None
            log.info("%s is complete already; nothing to do", config.output)
            return known
        if not counts["errors"]:
            log.info("no image of %s has failed; nothing to retry", config.output)
            return known
    elif config.retries_failures and not (known and known.retry_from):
        lacks = "is not complete; finish that run" if known else "holds no run; begin one"
        raise UsageError(f"{config.output} {lacks} before a retry")
    return None


def _has_changed(layout: Layout, known: Record) -> bool:
    """Whether a slice holds more images or files than it was sealed with, or fewer."""
    listed = manifest.load(layout, fingerprint(known.identity))
    if not listed:
        return False
    return any(not seal.standing(layout, i, listed.rows_of(i), 0) for i in listed.slices)


def _preview(config: Config, weights: Weights, layout: Layout, known: Record | None) -> None:
    placement = None if connection.waits_for_gpu(config) else connection.place(config)
    found = known and manifest.load(layout, fingerprint(known.identity))
    preview(config, weights, placement, found or enumeration.count(config))


def _execute(
    config: Config, weights: Weights, layout: Layout, make_engine: EngineFactory, started: float
) -> Summary:
    connection.await_gpu(config)
    placement = connection.place(config)
    if placement.device == "cuda":  # CPUs are not to take over unnoticed, should all GPUs be lost
        config = dataclasses.replace(config, device="cuda")
    try:
        with Lease(layout) as lease:
            begun = attempt.begin(config, weights, layout, lease, placement)
            return begun.run(make_engine, started)
    except (ray.exceptions.RayError, OSError, LeaseLost) as error:
        log.debug("traceback", exc_info=True)
        raise RunError(f"the run to {config.output} failed: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What happened, in one line: Ray wraps a worker's error, or ends its report with it."""
    if isinstance(error, ray.exceptions.RayTaskError):
        cause = error.cause
        text = str(cause) if isinstance(cause, RunError) else explain(cause)
        return text.partition(RAYS_ADVICE)[0].rstrip()
    if isinstance(error, ray.exceptions.RayActorError):
        return "a worker could not continue: " + str(error).strip().splitlines()[-1].strip()
    return explain(error)
