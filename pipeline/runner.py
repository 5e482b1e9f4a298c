"""A run from its command to its summary: what there is to do, begun, resumed or refreshed."""

from __future__ import annotations

import logging
import time

import ray

from pipeline import cluster, manifest, model, objects, record, refreshing, storage
from pipeline.attempt import Attempt
from pipeline.config import Config, RunError, UsageError, fingerprint
from pipeline.contract import EngineFactory
from pipeline.engine import Engine
from pipeline.layout import Output
from pipeline.lease import Lease, LeaseLost
from pipeline.summary import Summary, preview, summarize

log = logging.getLogger(__name__)
# Ray Data adds to an error's message how to have such errors retried, which the stages do
RAYS_ADVICE = "Failed to apply UDF transform"


def run(
    config: Config,
    make_engine: EngineFactory = Engine,
    dry_run: bool = False,
    refresh: bool = False,
) -> Summary | None:
    """Run, resume, or retry the failures of a detection run; nothing if it is complete.

    Args:
        config: what to do.
        make_engine: builds the engine of each replica.
        dry_run: stop after the preview, nothing written; returns None.
        refresh: list the input again first, and process what is new or has changed, too.

    Raises:
        UsageError: it cannot be done as asked.
        RunError: it broke off; the same call continues it.
    """
    started = time.monotonic()
    weights = model.resolve(config)
    output = Output(config.output, *storage.filesystem(config.output))
    known = record.existing(output, config, weights)
    if not config.retries_failures and known and not refresh:  # one that was interrupted goes on
        refresh = objects.get(output.fs, output.refreshing) is not None
    if refresh:
        refreshing.check(config)
        if known:
            refreshing.refresh(config, output, fingerprint(known.identity), dry_run)
            if dry_run:
                return None
    if complete := _complete(config, output, known):
        return summarize(complete, config, 0, started)
    cluster.connect()
    if dry_run:
        found = known and manifest.load(output.fs, output.run, fingerprint(known.identity))
        preview(config, weights, cluster.place(config), found or manifest.count(config))
        return None
    cluster.await_gpu(config)
    placement = cluster.place(config)
    try:
        with Lease(output.fs, f"{output.run}/lease.json", config.output) as lease:
            return Attempt(config, weights, output, placement).run(make_engine, lease, started)
    except (ray.exceptions.RayError, OSError, LeaseLost) as error:
        log.debug("traceback", exc_info=True)
        raise RunError(f"the run to {config.output} broke off: {_reason(error)}") from error


def _complete(config: Config, output: Output, known: record.Record | None) -> record.Record | None:
    """The record, if the output is as the run would leave it, which is then said."""
    if known and not known.retry_from and objects.get(output.fs, output.success) is not None:
        if not config.retries_failures:
            log.info("%s is complete already; nothing to do", config.output)
            return known
        if not (known.counts or {}).get("errors"):
            log.info("no image of %s has failed; nothing to retry", config.output)
            return known
    elif config.retries_failures and not (known and known.retry_from):
        raise UsageError(f"{config.output} is not complete; finish that run before a retry")
    return None


def _reason(error: Exception) -> str:
    """What happened, in one line: Ray wraps a worker's error, or ends its report with it."""
    if isinstance(error, ray.exceptions.RayTaskError):
        cause = error.cause
        text = str(cause) if isinstance(cause, RunError) else storage.explain(cause)
        return text.partition(RAYS_ADVICE)[0].rstrip()
    if isinstance(error, ray.exceptions.RayActorError):
        return "a worker could not go on: " + str(error).strip().splitlines()[-1].strip()
    return storage.explain(error)
