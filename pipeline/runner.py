"""The composition: manifest, fetch, detect, write; slice by slice until every image has its row.

The only module that knows Ray Data.
"""

from __future__ import annotations

import gc
import json
import logging
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
import ray.data
from fsspec import AbstractFileSystem

from pipeline import cluster, manifest, model, record, schema, storage
from pipeline.config import Config, RunError, UsageError
from pipeline.detector import Detector, EngineFactory, Replica
from pipeline.engine import Engine
from pipeline.fetch import Fetch
from pipeline.lease import Lease
from pipeline.progress import Counters, Progress, Reporter
from pipeline.sink import Finished, Writer, by_file

log = logging.getLogger(__name__)

MAX_RANGE_ROWS = 128
MIN_RANGE_ROWS = 8
MAX_BLOCKS = 2000
BLOCK_BYTES = 64 * 2**20


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


@dataclass
class Output:
    """The places below an output URL."""

    url: str
    fs: AbstractFileSystem
    root: str

    @property
    def run(self) -> str:
        return f"{self.root}/_run"

    @property
    def success(self) -> str:
        return f"{self.root}/_SUCCESS"

    def slice_record(self, index: int) -> str:
        return f"{self.run}/slices/{index:05d}.json"


def run(
    config: Config, make_engine: EngineFactory = Engine, dry_run: bool = False
) -> Summary | None:
    """Run, resume, or retry the failures of a detection run; nothing if it is complete.

    Args:
        config: what to do.
        make_engine: builds the engine of each replica.
        dry_run: stop after the preview, nothing written; returns None.

    Raises:
        UsageError: it cannot be done as asked.
        RunError: it broke off; the same call continues it.
    """
    started = time.monotonic()
    weights = model.resolve(config)
    output = Output(config.output, *storage.filesystem(config.output))
    known = _existing(output, config, weights)
    if known and not known.retry_from and storage.get(output.fs, output.success) is not None:
        if not config.retries_failures:
            log.info("%s is complete already; nothing to do", config.output)
            return _summary(known, config, 0, started)
        if not (known.counts or {}).get("errors"):
            log.info("no image of %s has failed; nothing to retry", config.output)
            return _summary(known, config, 0, started)
    elif config.retries_failures and not (known and known.retry_from):
        raise UsageError(f"{config.output} is not complete; finish that run before a retry")
    cluster.connect()
    placement = cluster.place(config)
    if dry_run:
        found = manifest.load(output.fs, output.run) or manifest.count(config)
        _preview(config, weights, placement, found)
        return None
    try:
        with Lease(output.fs, f"{output.run}/lease.json", config.output) as lease:
            return Run(config, weights, output, placement, make_engine, lease).go(started)
    except (ray.exceptions.RayError, OSError) as error:
        log.debug("traceback", exc_info=True)
        cause = getattr(error, "cause", None) or error
        reason = f"{type(cause).__name__}: {str(cause).strip().splitlines()[0]}"
    gc.collect()  # the actors of a failed execution hold their CPUs until its frames are gone
    raise RunError(f"the run to {config.output} broke off: {reason}")


def _existing(output: Output, config: Config, weights: model.Weights) -> record.Record | None:
    try:
        known = record.load(output.fs, output.run)
    except (OSError, ValueError, TypeError) as error:
        raise storage.unusable("read", f"{config.output}/_run/run.json", error) from error
    if known:
        record.check_same(known, config, weights)
    return known


def _summary(known: record.Record, config: Config, processed: int, started: float) -> Summary:
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


def _preview(
    config: Config, weights: model.Weights, placement: cluster.Placement, found: manifest.Manifest
) -> None:
    repeated = f" ({found.duplicates:,} repeated URIs left out)" if found.duplicates else ""
    share = f"{placement.gpus:g} GPU, " if placement.gpus else ""
    untrained = "" if weights.trained else "; UNTRAINED, its boxes mean nothing"
    log.info("input     %s: %s images%s", config.input, f"{found.rows:,}", repeated)
    log.info("weights   %s, sha256 %s%s", weights.model_id, weights.sha256[:12], untrained)
    log.info("replicas  %d on %s, each %s%g CPUs; micro-batches of %d", placement.replicas,
             placement.device, share, placement.cpus, placement.micro_batch)  # fmt: skip
    log.info("output    %s", config.output)


@dataclass
class Run:
    """One attempt at a run, under its lease."""

    config: Config
    weights: model.Weights
    output: Output
    placement: cluster.Placement
    make_engine: EngineFactory
    lease: Lease

    def go(self, started: float) -> Summary:
        """Process what is missing, slice by slice, then declare the output complete."""
        fs, config = self.output.fs, self.config
        # read again: what was known before the lease may have changed
        self.record = _existing(self.output, config, self.weights) or record.new(
            config, self.weights
        )
        listing_started = time.monotonic()
        self.manifest = manifest.load(fs, self.output.run) or manifest.write(
            config, fs, self.output.run
        )
        listed = time.monotonic() - listing_started
        _preview(config, self.weights, self.placement, self.manifest)
        record.begin(self.record, config, self.placement)
        if config.retries_failures and not self.record.retry_from:
            self.record.retry_from = self.record.attempt
        self.record.counts = None
        record.save(self.record, fs, self.output.run)
        storage.delete(fs, self.output.success)

        self.counters = ray.remote(num_cpus=0)(Counters).remote()
        self.weights_ref = ray.put(self.weights)
        pending = [index for index in self.manifest.slices if not self._sealed(index)]
        loaded = [self._finished(index) for index in pending[:1]]
        already = self._already(pending, loaded)
        with Reporter(self.counters, self.manifest.rows, already) as reporter:
            for index in pending:
                finished = loaded.pop() if loaded else self._finished(index)
                self._process(finished)
                self._seal(finished)
        sums = {**reporter.sums, "seconds_list": listed}
        record.end(self.record, sums, time.monotonic() - started)
        self._complete()
        processed = int(reporter.sums.get("written", 0))
        return _summary(self.record, config, processed, started)

    def _already(self, pending: list[int], loaded: list[Finished]) -> int:
        done = self.manifest.rows - sum(self.manifest.slice_rows(index) for index in pending)
        return done + sum(finished.rows - finished.missing for finished in loaded)

    def _sealed(self, index: int) -> bool:
        data = storage.get(self.output.fs, self.output.slice_record(index))
        if data is None:
            return False
        sealed = json.loads(data)
        return not sealed["errors"] or sealed["attempt"] >= self.record.retry_from

    def _finished(self, index: int) -> Finished:
        finished = Finished(
            self.output.fs,
            f"{self.output.root}/detections",
            index,
            self.manifest.slice_rows(index),
            self.record.retry_from,
        )
        finished.load()
        return finished

    def _process(self, finished: Finished) -> None:
        """Run the chain over what is missing, again if Ray lost a part of it."""
        while finished.missing:
            before = finished.missing
            for summary in self._chain(finished).iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            ):
                for name, table in by_file(summary):
                    finished.add(name, table)
            gc.collect()  # and so do those of one that came to its end
            if finished.missing == before:
                raise RunError(f"{before:,} images came to no end; nothing was written for them")

    def _chain(self, finished: Finished) -> ray.data.Dataset:
        """The way of an image: ranges of ids -> fetch -> detect -> write."""
        config, placement = self.config, self.placement
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = BLOCK_BYTES
        progress = Progress(self.counters)
        range_rows = self._range_rows(finished)
        ranges = _ranges(finished, range_rows)
        replica = Replica(
            config, placement.device, placement.threads, placement.micro_batch, self.record.run_id
        )
        fetch_arguments = (
            config,
            f"{config.output}/_run",
            finished.first_id,
            ray.put(finished.done.copy()),
            progress,
        )
        carried = self._carried(finished)
        writer = Writer(
            config.output, self.record.attempt, self.lease.token,
            schema.with_carried(carried, record.detector(config, self.weights)), progress,
        )  # fmt: skip
        return (
            # of all sources the one that needs no CPU, which the replicas may hold already
            ray.data.from_items(ranges, override_num_blocks=min(len(ranges), MAX_BLOCKS))
            .map_batches(
                Fetch,
                batch_size=1,
                batch_format="pyarrow",
                fn_constructor_args=fetch_arguments,
                num_cpus=cluster.FETCH_CPUS,
                compute=_pool(placement.fetchers),
            )
            .map_batches(
                Detector,
                batch_size=range_rows,
                batch_format="pyarrow",
                fn_constructor_args=(replica, self.weights_ref, self.make_engine, progress),
                num_cpus=placement.cpus,
                num_gpus=placement.gpus or None,
                compute=_pool(placement.replicas),
            )
            .map_batches(
                writer,
                batch_size=placement.rows_per_file,
                batch_format="pyarrow",
                num_cpus=cluster.WRITE_CPUS,
            )
        )  # fmt: skip

    def _range_rows(self, finished: Finished) -> int:
        """A power of two: small enough that every replica gets several ranges."""
        wanted = finished.missing // (8 * self.placement.replicas)
        return max(MIN_RANGE_ROWS, min(MAX_RANGE_ROWS, 1 << max(0, wanted.bit_length() - 1)))

    def _carried(self, finished: Finished) -> pa.Schema:
        first = manifest.read_rows(self.output.fs, self.output.run, finished.first_id, 1)
        return pa.schema([first.schema.field(name) for name in self.manifest.columns])

    def _seal(self, finished: Finished) -> None:
        """Make sure that the slice's files hold each id once, and note its counts."""
        finished.load()  # files of a task that Ray ran twice, or of a run that was killed
        finished.remove_superseded()
        sealed = {
            "attempt": self.record.attempt,
            "images": finished.rows,
            "detections": finished.detections,
            "errors": dict(finished.errors),
        }
        path = self.output.slice_record(finished.index)
        storage.put(self.output.fs, path, json.dumps(sealed).encode())

    def _complete(self) -> None:
        errors: Counter[str] = Counter()
        detections = 0
        for index in self.manifest.slices:
            data = storage.get(self.output.fs, self.output.slice_record(index))
            sealed = json.loads(data or b"{}")
            errors.update(sealed["errors"])
            detections += sealed["detections"]
        self.record.counts = {
            "images": self.manifest.rows,
            "ok": self.manifest.rows - sum(errors.values()),
            "errors": dict(errors.most_common()),
            "detections": detections,
            "duplicates": self.manifest.duplicates,
        }
        self.record.retry_from = 0
        record.save(self.record, self.output.fs, self.output.run)
        storage.put(self.output.fs, self.output.success, b"")


def _pool(size: int) -> ray.data.ActorPoolStrategy:
    # two calls at once: one waits for its last reads, or decodes, while the other one works
    return ray.data.ActorPoolStrategy(
        size=size, max_tasks_in_flight_per_actor=4, max_concurrent_calls_per_actor=2
    )


def _ranges(finished: Finished, rows: int) -> list[dict[str, int]]:
    """The ranges of ids with anything missing."""
    padded = np.ones(-(-finished.rows // rows) * rows, bool)
    padded[: finished.rows] = finished.done
    missing = np.flatnonzero(~padded.reshape(-1, rows).all(axis=1))
    return [{"start": int(index) * rows + finished.first_id, "rows": rows} for index in missing]
