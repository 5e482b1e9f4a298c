"""The way of an image: fetch, detect, write. The only module that knows Ray Data."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import ray
import ray.data

from pipeline import cluster
from pipeline.client import Client
from pipeline.config import Config
from pipeline.contract import ALLOCATOR, EngineFactory
from pipeline.detector import Detector, Replica
from pipeline.fetch import Fetch
from pipeline.sink import Finished, Writer
from pipeline.watch import Watch

# images read, and handed to a replica, together
MAX_RANGE_ROWS = 256
MIN_RANGE_ROWS = 8
# the driver keeps something for every block of an execution
MAX_BLOCKS = 2000
BLOCK_BYTES = 64 * 2**20
# actors of a stage that fail to start one after the other, until the run does
INIT_DEATHS = 3

# advice that Ray Data gives a run of fewer files than may be written at once
warnings.filterwarnings("ignore", "The maximum number of concurrent tasks", module=r"ray\.data")


@dataclass(frozen=True)
class Chain:
    """The stages of a run, to be executed slice by slice.

    Attributes:
        config: the run's.
        placement: how many of what.
        weights: reference to the `Weights`, which each node fetches once.
        make_engine: builds the engine of each replica.
        writer: the last stage.
        run_id: for the rows.
        client: of the coordinator that all stages report to.
        image_bytes: mean encoded size of an image.
    """

    config: Config
    placement: cluster.Placement
    weights: ray.ObjectRef
    make_engine: EngineFactory
    writer: Writer
    run_id: str
    client: Client
    image_bytes: float

    def execute(self, finished: Finished, watch: Watch) -> Iterator[pa.Table]:
        """Process the images of a slice that are not finished; yields the writer's summaries.

        Comes to an end early when `watch` will have it so.

        Raises:
            ray.exceptions.RayError: a stage failed in a way that is not one image's.
        """
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = BLOCK_BYTES
        context.memory_usage_poll_interval_s = None  # a thread in each task that nobody reads
        context.max_consecutive_actor_init_deaths = INIT_DEATHS
        context.raise_original_map_exception = True  # else wrapped, and its reason lost
        dataset = self._dataset(finished)
        # what `iter_batches` does, but with the executor in hand, to end it from outside
        executor = dataset._create_executor()
        try:
            with watch.over(executor):
                for bundle in dataset._build_bundle_iterator(executor):
                    for block in bundle.block_refs:
                        summary: pa.Table = ray.get(cast(Any, block))
                        if summary.num_rows:  # of rows that never came, Ray knows no columns
                            yield summary
        finally:
            executor.shutdown(force=True)
            self.client.dismiss()

    def _dataset(self, finished: Finished) -> ray.data.Dataset:
        config, placement = self.config, self.placement
        rows = self._range_rows(finished)
        ranges = _ranges(finished, rows)
        done = ray.put(finished.done.copy())
        replica = Replica(
            config, placement.device, placement.threads, placement.micro_batch, self.run_id
        )
        # of all sources the one that needs no CPU, which the replicas may hold already
        source = ray.data.from_items(ranges, override_num_blocks=min(len(ranges), MAX_BLOCKS))
        fetched = source.map_batches(
            Fetch,
            batch_size=1,
            batch_format="pyarrow",
            fn_constructor_args=(
                config, f"{config.output}/_run", finished.first_id, done, self.client.of("fetch")
            ),
            num_cpus=cluster.FETCH_CPUS,
            compute=_pool(placement.fetchers),
        )  # fmt: skip
        detected = fetched.map_batches(
            Detector,
            batch_size=rows,
            batch_format="pyarrow",
            fn_constructor_args=(
                replica, self.weights, self.make_engine, self.client.of("detect")
            ),
            num_cpus=placement.cpus,
            num_gpus=placement.gpus or None,
            memory=placement.memory or None,
            runtime_env={"env_vars": ALLOCATOR} if placement.device == "cpu" else None,
            compute=_pool(placement.replicas),
        )  # fmt: skip
        return detected.map_batches(
            dataclasses.replace(self.writer, index=finished.index),
            batch_size=placement.rows_per_file,
            batch_format="pyarrow",
            num_cpus=cluster.WRITE_CPUS,
            # each task at once has a process of its own, which takes longer to start than to write
            compute=ray.data.TaskPoolStrategy(size=placement.replicas + 1),
        )

    def _range_rows(self, finished: Finished) -> int:
        """A power of two: every replica gets several ranges, and none is larger than a block.

        A replica holds a few ranges at once, and a batch of several blocks is copied together.
        """
        wanted = finished.missing // (8 * self.placement.replicas)
        wanted = min(wanted, int(BLOCK_BYTES / self.image_bytes))
        return max(MIN_RANGE_ROWS, min(MAX_RANGE_ROWS, 1 << max(0, wanted.bit_length() - 1)))


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
