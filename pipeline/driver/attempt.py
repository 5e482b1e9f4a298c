"""One attempt at a run, under its lease: slice by slice, seal, count, `_SUCCESS`."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray

from pipeline import words
from pipeline.cluster import connection
from pipeline.cluster.client import Client
from pipeline.cluster.coordinator import coordinating
from pipeline.cluster.placement import Placement
from pipeline.config import Config, fingerprint
from pipeline.driver import large, record
from pipeline.driver.metrics import Metrics
from pipeline.driver.progress import Reporter
from pipeline.driver.record import Record
from pipeline.driver.summary import Summary, preview, summarize
from pipeline.driver.watch import Watch
from pipeline.errors import RunError, UsageError
from pipeline.inputs import enumeration, sizes
from pipeline.network import build
from pipeline.network.contract import EngineFactory, Weights
from pipeline.outputs import manifest, schema, seal
from pipeline.outputs.finished import Finished
from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import Lease
from pipeline.outputs.manifest import Manifest
from pipeline.outputs.seal import Seal
from pipeline.stages.chain import Chain, Stages
from pipeline.stages.write import Destination, by_file

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """One attempt at a run, under its lease.

    Attributes:
        config: of this attempt.
        weights: of the run.
        layout: of its output.
        lease: on the output.
        placement: on the cluster, at first.
        manifest: of the run.
        record: of the run, with this attempt in it.
        listed: seconds that listing took.
        stages: of the chain.
    """

    config: Config
    weights: Weights
    layout: Layout
    lease: Lease
    placement: Placement
    manifest: Manifest
    record: Record
    listed: float
    stages: Stages

    def run(self, make_engine: EngineFactory, started: float) -> Summary:
        """Process what is missing, slice by slice, then declare the output complete.

        Args:
            make_engine: builds the engine of each replica.
            started: when the command did, by `time.monotonic`.

        Raises:
            RunError, ray.exceptions.RayError, OSError, LeaseLost: it broke off.
        """
        with coordinating() as coordinator:
            sums, examples = self._process_pending(make_engine, coordinator)
        sums["seconds_list"] = self.listed
        record.end(self.record, sums, examples, time.monotonic() - started)
        self._complete()
        return summarize(self.record, self.config, int(sums["processed"]), started)

    def _process_pending(
        self, make_engine: EngineFactory, coordinator: Any
    ) -> tuple[dict[str, float], dict[str, list[str]]]:
        """Returns the sums of what the stages report, with the number of images `processed`, and
        examples of URIs.
        """
        chain = self._chain(make_engine, Client(coordinator))
        known = self.manifest
        retry_from = self.record.retry_from
        seals = {
            i: seal.standing(self.layout, i, known.rows_of(i), retry_from) for i in known.slices
        }
        pending = [index for index, sealed in seals.items() if not sealed]
        written = {i: self._written(i, sealed) for i, sealed in seals.items()}
        failed = sum((Counter(s.errors) for s in seals.values() if s), Counter[str]())
        reporter = Reporter(known.rows, sum(written.values()), failed, self.placement.replicas)

        def begun(index: int) -> Finished:
            finished = self._finished(index)
            found = finished.rows - finished.unfinished
            reporter.found(found - written.pop(index), finished.errors)
            return finished

        first = [begun(index) for index in pending[:1]]
        metrics = Metrics(self.record.run_id, self.placement.micro_batch, self.lease.publish)
        processed = 0
        with Watch(coordinator, self.config, self.placement, reporter, metrics) as watch:
            for index in pending:
                finished = first.pop() if first else begun(index)
                processed += finished.unfinished
                elsewhere = sum(written.values())
                chain, finished = self._process_slice(chain, finished, watch, elsewhere)
                written[index] = finished.rows
                self._seal(finished)
        return {**watch.state.sums, "processed": processed}, watch.state.examples

    def _written(self, index: int, standing: Seal | None) -> int:
        """Images of a slice that stay, as far as its seal says, or the one before a retry."""
        if standing:
            return standing.images
        before = seal.load(self.layout, index, 0)
        return before.images - sum(before.errors.values()) if before else 0

    def _chain(self, make_engine: EngineFactory, client: Client) -> Chain:
        first = self.manifest.read_part(self.layout, 0).schema
        added = [first.field(name) for name in self.manifest.columns]
        if self.config.accept_truncated is not None:
            added.append(schema.RECOVERED_SHARE)
        written = schema.with_carried(pa.schema(added), record.detector(self.weights))
        # in a retry, too, the input decides which URIs may be read
        config = dataclasses.replace(self.config, input=self.record.identity["input"])
        url = self.layout.url
        destination = Destination(url, url, self.record.attempt, self.lease.token, written)
        return Chain(
            config=config,
            manifest=self.manifest,
            placement=self.placement,
            weights=ray.put(self.weights),
            make_engine=make_engine,
            destination=destination,
            run_id=self.record.run_id,
            client=client,
            image_bytes=sizes.mean_bytes(config, self.layout, self.manifest),
            stages=self.stages,
        )

    def _finished(self, index: int) -> Finished:
        retry_from, look = self.record.retry_from, self.lease.look
        finished = Finished.of(self.layout, self.manifest, index, retry_from, look)
        finished.load()
        return finished

    def _process_slice(
        self, chain: Chain, finished: Finished, watch: Watch, elsewhere: int
    ) -> tuple[Chain, Finished]:
        """The slice with a row of each image, and the chain as it was last placed.

        `elsewhere` is how many images other slices have in files.
        """

        def check() -> None:
            try:
                watch.check()
            except BaseException as error:
                error.add_note(watch.kept(elsewhere + finished.rows - finished.unfinished))
                raise

        def process(chain: Chain, part: Finished) -> Chain:
            return self._process(chain, part, watch, check)

        chain = process(chain, finished)
        if self.config.tile is None:
            return chain, finished
        suits = partial(build.suits, self.weights) if self.record.overviews else None
        categories = self.weights.categories
        chain = large.detect(chain, categories, finished, process, suits, check)
        fresh = self._finished(finished.index)
        if fresh.unfinished:
            raise RunError(
                f"{fresh.unfinished:,} images were not finished; run the same command again"
            )
        return chain, fresh

    def _process(
        self, chain: Chain, finished: Finished, watch: Watch, check: Callable[[], None]
    ) -> Chain:
        """Execute the chain for what is missing, again if Ray lost a part of it.

        Args:
            chain: as it is placed.
            finished: of the slice, or of one of the regions of its large images.
            watch: over the run.
            check: that of the watch, which notes what is kept.

        Returns:
            The chain as it was last, placed on the cluster as it is now.
        """
        while finished.missing:
            before = finished.missing
            broken: Exception | None = None
            try:
                # closed even where an error is kept with this frame: nothing is to go on once the
                # lease is given back
                with contextlib.closing(chain.execute(finished, watch.over)) as summaries:
                    for summary in summaries:
                        for path, table in by_file(summary):
                            finished.add(path, table)
            except ray.exceptions.RayTaskError:  # one of our own
                raise
            except ray.exceptions.RayError as error:
                broken = error
            check()
            if watch.lost or watch.grown or (broken and finished.missing < before):
                chain = self._placed_anew(chain, watch)
            elif broken:
                raise broken
            elif finished.missing == before:
                raise RunError(
                    f"{before:,} images were not finished, and nothing was written for them; run "
                    "the same command again"
                )
        return chain

    def _placed_anew(self, chain: Chain, watch: Watch) -> Chain:
        connection.await_gpu(self.config, watch.check)
        try:
            placement = connection.place(self.config)
        except UsageError as error:  # of the cluster as it is now; it was large enough
            raise RunError(f"the cluster has lost nodes that the run needs: {error}") from error
        what = "grown" if watch.grown else "lost nodes"
        replicas, fetchers = placement.replicas, words.count(placement.fetchers, "fetch actor")
        log.info("the cluster has %s; continuing with %d replicas and %s", what, replicas, fetchers)
        watch.placed(placement)
        return dataclasses.replace(chain, placement=placement)

    def _seal(self, finished: Finished) -> None:
        """Make sure that the slice's files hold each id once, and note its counts."""
        finished.load()  # files of a task that Ray ran twice, or of a run that was killed
        finished.remove_superseded()
        errors, files = dict(finished.errors), len(finished.files)
        sealed = Seal(self.record.attempt, finished.rows, finished.detections, errors, files)
        sealed.save(self.lease, finished.index)

    def _complete(self) -> None:
        errors: Counter[str] = Counter()
        detections = 0
        self.lease.close()  # what came to a slice after this look at it, nobody would see
        for index in self.manifest.slices:
            sealed = seal.load(self.layout, index, self.record.retry_from)
            if sealed and sealed.images != self.manifest.rows_of(index):
                raise RunError(
                    f"another run has sealed slice {index} of {self.layout.url}, which had other "
                    "images then; run the same command again"
                )
            # not fewer: network disks keep a listing for up to a minute
            if not sealed or sealed.surplus(self.layout, index) > 0:
                raise RunError(
                    f"files were added to slice {index} of {self.layout.url} after it was sealed; "
                    "run the same command again, which removes the rows that they repeat"
                )
            errors.update(sealed.errors)
            detections += sealed.detections
        self.record.counts = {
            "images": self.manifest.rows,
            "ok": self.manifest.rows - sum(errors.values()),
            "errors": dict(errors.most_common()),
            "detections": detections,
            "duplicates": self.manifest.duplicates,
        }
        record.save(self.record, self.lease)
        self.lease.put(self.layout.success, b"")
        # last, so that the command of an interrupted retry finds it until then
        if self.record.retry_from:
            self.record.retry_from = 0
            record.save(self.record, self.lease)


def begin(
    config: Config,
    weights: Weights,
    layout: Layout,
    lease: Lease,
    placement: Placement,
    stages: Stages | None = None,
) -> Attempt:
    """Find or make record and manifest, and note in them that an attempt begins.

    Args:
        config: of the attempt.
        weights: of the run.
        layout: of its output.
        lease: on the output.
        placement: on the cluster.
        stages: of the chain; of a measurement, else the real ones.

    Raises:
        UsageError: the input cannot be read or holds no image, or the output is another run's.
        LeaseLost: another run took over, while it was listed.
    """
    # read again: what was known before the lease may have changed
    known = record.existing(layout, config, weights) or record.new(config, weights)
    started = time.monotonic()
    mark = fingerprint(known.identity)
    listed = manifest.load(layout, mark)
    if not listed:
        log.info("listing the input")
        listed = enumeration.write(config, layout, mark, lease=lease)
    seconds = time.monotonic() - started
    preview(config, weights, placement, listed)
    record.begin(known, config, placement)
    if config.retries_failures and not known.retry_from:
        known.retry_from = known.attempt
    known.counts = None
    record.save(known, lease)
    lease.delete(layout.success)
    return Attempt(
        config, weights, layout, lease, placement, listed, known, seconds, stages or Stages()
    )
