"""The way of an image: fetch, detect, write, as one execution of Ray Data."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow as pa
import ray

from pipeline.cluster import ray_internals
from pipeline.cluster.client import Client
from pipeline.cluster.placement import STAGE_CPUS, Placement
from pipeline.config import Config
from pipeline.network.contract import ALLOCATOR, EngineFactory
from pipeline.outputs.finished import Finished
from pipeline.outputs.manifest import Manifest
from pipeline.stages.detect import Detector, Replica
from pipeline.stages.fetch import Fetch
from pipeline.stages.write import Destination, Writer

# The replicas that wait for a GPU are what an autoscaler is asked for. What Ray Data asks for, too,
# would hold the nodes of replicas that are done. It looks here when it is imported.
for _resource in ("CPU", "GPU", "MEMORY", "OBJECT_STORE_MEMORY"):
    os.environ.setdefault(f"RAY_DATA_DEFAULT_CLUSTER_SCALING_UP_{_resource}_UTIL_THRESHOLD", "1e9")
import ray.data  # noqa: E402

# Images read, and handed to a replica, together, in its micro-batches. Only images of one padded
# shape share one: of photographs, which have some fifteen, so many fill theirs to nine tenths. More
# would cost more when a replica is killed, for what it has done of a range goes with it.
RANGE_MICRO_BATCHES = 64
MIN_RANGE_ROWS = 8
# the driver keeps something for every block of an execution
MAX_BLOCKS = 2000
# of encoded images in a block, by device: on a GPU, a range of 1,024 of 256 kB
BLOCK_BYTES = {"cuda": 256 * 2**20, "cpu": 64 * 2**20}
# actors of a stage that fail to start one after the other, until the run does
INIT_DEATHS = 3

# advice that Ray Data gives a run of fewer files than may be written at once
warnings.filterwarnings("ignore", "The m.{2}imum number of concurrent", module=r"ray\.data")


# what a block's execution is watched by, given what can end it
Over = Callable[[ray_internals.Execution], AbstractContextManager[None]]


@dataclass(frozen=True)
class Stages:
    """What the actors of a chain are made of; a measurement puts other ones in their places.

    Attributes:
        fetch: made and called as `Fetch` is.
        detect: made and called as `Detector` is.
        block_bytes: of encoded images in a block, by device.
    """

    fetch: type = Fetch
    detect: type = Detector
    block_bytes: Mapping[str, int] = field(default_factory=lambda: BLOCK_BYTES)


@dataclass(frozen=True)
class Chain:
    """The stages of a run, to be executed slice by slice.

    Attributes:
        config: the run's.
        manifest: likewise.
        placement: how many of what.
        weights: reference to the `Weights`, which each node fetches once.
        make_engine: builds the engine of each replica.
        destination: of the rows.
        run_id: for the rows.
        client: of the coordinator that all stages report to.
        image_bytes: mean encoded size of an image.
        stages: the ones before the last.
        least_rows: of a range.
    """

    config: Config
    manifest: Manifest
    placement: Placement
    weights: ray.ObjectRef[Any]
    make_engine: EngineFactory
    destination: Destination
    run_id: str
    client: Client
    image_bytes: float
    stages: Stages
    least_rows: int = MIN_RANGE_ROWS

    def execute(self, finished: Finished, over: Over) -> Generator[pa.Table, None, None]:
        """Process the images of a slice that are not finished; yields the writer's summaries.

        Args:
            finished: of the slice.
            over: entered for as long as the execution goes on; whoever is behind it may end that
                early, which is no error.

        Raises:
            ray.exceptions.RayError: a stage failed in a way that is not one image's.
        """
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = self._block_bytes
        context.memory_usage_poll_interval_s = None  # a thread in each task that nobody reads
        context.max_consecutive_actor_init_deaths = INIT_DEATHS
        context.raise_original_map_exception = True  # else wrapped, and its reason lost
        execution = ray_internals.Execution(self._dataset(finished))
        try:
            with over(execution):
                for block in execution.blocks():
                    summary: pa.Table = ray.get(cast(Any, block))
                    if summary.num_rows:  # of rows that never came, Ray knows no columns
                        yield summary
        finally:
            execution.end()
            self.client.dismiss()

    def _dataset(self, finished: Finished) -> ray.data.Dataset:
        config, placement, client = self.config, self.placement, self.client
        rows = self._range_rows(finished)
        ranges = _ranges(finished, rows)
        done = ray.put(finished.done.copy())
        replica = Replica(
            config, placement.device, placement.threads, placement.micro_batch, self.run_id
        )
        # of all sources the one that needs no CPU, which the replicas may hold already
        source = ray.data.from_items(ranges, override_num_blocks=min(len(ranges), MAX_BLOCKS))
        fetched = source.map_batches(
            self.stages.fetch,
            batch_size=1,
            batch_format="pyarrow",
            fn_constructor_args=(config, self.manifest, finished.index, done, client.of("fetch")),
            num_cpus=STAGE_CPUS,
            compute=_pool(placement.fetchers),
        )
        detected = fetched.map_batches(
            self.stages.detect,
            batch_size=rows,
            batch_format="pyarrow",
            fn_constructor_args=(replica, self.weights, self.make_engine, client.of("detect")),
            num_cpus=placement.cpus,
            num_gpus=placement.gpus or None,
            memory=placement.memory or None,
            runtime_env={"env_vars": ALLOCATOR} if placement.device == "cpu" else None,
            compute=_pool(placement.replicas),
        )
        return detected.map_batches(
            Writer,
            batch_size=placement.rows_per_file,
            batch_format="pyarrow",
            fn_constructor_args=(self.destination, finished.index, client.of("write")),
            num_cpus=STAGE_CPUS,
            compute=_pool(placement.fetchers),
        )

    def _range_rows(self, finished: Finished) -> int:
        """A power of two: every replica gets several ranges, none larger than a block or a part.

        A replica holds a few ranges at once, and a batch of several blocks is copied together.
        """
        most = min(RANGE_MICRO_BATCHES * self.placement.micro_batch, self.manifest.part_rows)
        wanted = finished.missing // (8 * self.placement.replicas)
        wanted = min(wanted, most, int(self._block_bytes / self.image_bytes))
        return max(self.least_rows, 1 << max(0, wanted.bit_length() - 1))

    @property
    def _block_bytes(self) -> int:
        return self.stages.block_bytes[self.placement.device]


def _pool(size: int) -> ray.data.ActorPoolStrategy:
    # two calls at once: one waits for the store, or decodes, while the other one works
    return ray.data.ActorPoolStrategy(
        size=size, max_tasks_in_flight_per_actor=4, max_concurrent_calls_per_actor=2
    )


def _ranges(finished: Finished, rows: int) -> list[dict[str, int]]:
    """The ranges of ids with anything missing."""
    padded = np.ones(-(-finished.rows // rows) * rows, bool)
    padded[: finished.rows] = finished.done
    missing = np.flatnonzero(~padded.reshape(-1, rows).all(axis=1))
    return [{"start": int(index) * rows + finished.first_id, "rows": rows} for index in missing]
