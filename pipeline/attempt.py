"""One attempt at a run, under its lease: slice by slice, seal, count, `_SUCCESS`."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from pipeline import cluster, manifest, objects, record, schema, sizes
from pipeline.chain import Chain
from pipeline.client import Client
from pipeline.config import Config, RunError, fingerprint
from pipeline.contract import EngineFactory, Weights
from pipeline.coordinator import coordinating
from pipeline.layout import Output
from pipeline.lease import Lease
from pipeline.metrics import Metrics
from pipeline.progress import Reporter
from pipeline.sink import Finished, Writer, by_file
from pipeline.summary import Summary, preview, summarize
from pipeline.watch import Watch

log = logging.getLogger(__name__)


@dataclass
class Attempt:
    """One attempt at a run, under its lease."""

    config: Config
    weights: Weights
    output: Output
    placement: cluster.Placement

    def run(self, make_engine: EngineFactory, lease: Lease, started: float) -> Summary:
        """Process what is missing, slice by slice, then declare the output complete."""
        listed = self._begin()
        with coordinating() as coordinator:
            sums = self._process_pending(make_engine, lease, coordinator)
        sums["seconds_list"] = listed
        record.end(self.record, sums, time.monotonic() - started)
        lease.check()
        self._complete()
        return summarize(self.record, self.config, int(sums["processed"]), started)

    def _process_pending(
        self, make_engine: EngineFactory, lease: Lease, coordinator: Any
    ) -> dict[str, float]:
        """Returns the sums of what the stages report, and the number of images `processed`."""
        chain = self._chain(make_engine, lease, Client(coordinator))
        pending = [index for index in self.manifest.slices if not self._sealed(index)]
        first = [self._finished(index) for index in pending[:1]]
        already = self.manifest.rows - sum(map(self.manifest.slice_rows, pending))
        already += sum(finished.rows - finished.missing for finished in first)
        reporter = Reporter(self.manifest.rows, already)
        metrics = Metrics(self.record.run_id, self.placement.micro_batch, lease.publish)
        processed = 0
        with Watch(coordinator, self.config, self.placement, reporter, metrics) as watch:
            for index in pending:
                finished = first.pop() if first else self._finished(index)
                processed += finished.missing
                chain = self._process(chain, finished, watch)
                lease.check()
                self._seal(finished)
        return {**watch.state.sums, "processed": processed}

    def _begin(self) -> float:
        """Find or make record and manifest; returns the seconds of listing."""
        fs, config = self.output.fs, self.config
        # read again: what was known before the lease may have changed
        self.record = record.existing(self.output, config, self.weights) or record.new(
            config, self.weights
        )
        started = time.monotonic()
        mark = fingerprint(self.record.identity)
        self.manifest = manifest.load(fs, self.output.run, mark) or manifest.write(
            config, fs, self.output.run, mark
        )
        listed = time.monotonic() - started
        preview(config, self.weights, self.placement, self.manifest)
        record.begin(self.record, config, self.placement)
        if config.retries_failures and not self.record.retry_from:
            self.record.retry_from = self.record.attempt
        self.record.counts = None
        record.save(self.record, fs, self.output.run)
        objects.delete(fs, self.output.success)
        return listed

    def _chain(self, make_engine: EngineFactory, lease: Lease, client: Client) -> Chain:
        first = manifest.read_part(self.output.fs, self.output.run, 0).schema
        carried = pa.schema([first.field(name) for name in self.manifest.columns])
        written = schema.with_carried(carried, record.detector(self.weights))
        # in a retry, too, the input decides which URIs may be read
        config = dataclasses.replace(self.config, input=self.record.identity["input"])
        writer = Writer(
            self.output.url, self.record.attempt, lease.token, written, client.of("write")
        )
        return Chain(
            config=config,
            placement=self.placement,
            weights=ray.put(self.weights),
            make_engine=make_engine,
            writer=writer,
            run_id=self.record.run_id,
            client=client,
            image_bytes=sizes.mean_bytes(config, self.output, self.manifest),
        )

    def _sealed(self, index: int) -> bool:
        sealed = objects.get_json(self.output.fs, self.output.slice_record(index))
        if sealed is None:
            return False
        return not sealed["errors"] or sealed["attempt"] >= self.record.retry_from

    def _finished(self, index: int) -> Finished:
        finished = Finished(
            self.output.fs,
            self.output.detections,
            index,
            self.manifest.slice_rows(index),
            self.record.retry_from,
        )
        finished.load()
        return finished

    def _process(self, chain: Chain, finished: Finished, watch: Watch) -> Chain:
        """Execute the chain for what is missing, again if Ray lost a part of it.

        Returns:
            The chain as it was last, placed on the cluster as it is now.
        """
        while finished.missing:
            before = finished.missing
            broken: Exception | None = None
            try:
                for summary in chain.execute(finished, watch):
                    for name, table in by_file(summary):
                        finished.add(name, table)
            except ray.exceptions.RayTaskError:  # one of our own
                raise
            except ray.exceptions.RayError as error:
                broken = error
            watch.check()
            if watch.lost or watch.grown or (broken and finished.missing < before):
                cluster.await_gpu(self.config)
                placement = cluster.place(self.config)
                log.info("the cluster has %s; going on with %d replicas",
                         "grown" if watch.grown else "lost parts", placement.replicas)  # fmt: skip
                watch.placed(placement)
                chain = dataclasses.replace(chain, placement=placement)
            elif broken:
                raise broken
            elif finished.missing == before:
                raise RunError(f"{before:,} images came to no end; nothing was written for them")
        return chain

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
        objects.put(self.output.fs, path, json.dumps(sealed).encode())

    def _complete(self) -> None:
        errors: Counter[str] = Counter()
        detections = 0
        for index in self.manifest.slices:
            sealed = objects.get_json(self.output.fs, self.output.slice_record(index))
            errors.update(sealed["errors"])
            detections += sealed["detections"]
        self.record.counts = {
            "images": self.manifest.rows,
            "ok": self.manifest.rows - sum(errors.values()),
            "errors": dict(errors.most_common()),
            "detections": detections,
            "duplicates": self.manifest.duplicates,
        }
        record.save(self.record, self.output.fs, self.output.run)
        objects.put(self.output.fs, self.output.success, b"")
        # last, so that the command of an interrupted retry finds it until then
        if self.record.retry_from:
            self.record.retry_from = 0
            record.save(self.record, self.output.fs, self.output.run)
