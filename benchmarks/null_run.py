"""A run of stages of one's own, with weights of one's own: `runner.run` takes neither.

What is executed below them is the real thing: Ray, lease, manifest, record, writer, sealing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks import stages
from pipeline.cluster import connection
from pipeline.config import Config, fingerprint
from pipeline.driver import attempt, record
from pipeline.driver.summary import Summary
from pipeline.inputs import enumeration
from pipeline.network.contract import Weights
from pipeline.outputs import manifest
from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import Lease
from pipeline.outputs.manifest import SLICE_ROWS, Manifest
from pipeline.stages.chain import BLOCK_BYTES, Stages

# of an engine that there is not: none to be shared by a node's processes
WEIGHTS = Weights("null", "0" * 64, False, {}, {}, {"num_classes": 4})
# of an encoded image, of those that `Stages.block_bytes` is made for
PHOTOGRAPH_BYTES = 256_000


@dataclass(frozen=True)
class Steps:
    """When the steps of a run were, by `time.time`, as files' times are.

    Attributes:
        started: connecting to Ray began.
        connected: it was done; placing, lease, manifest and record are next.
        listing: seconds of making the manifest; 0 if it was there.
        begun: all of that was done; looking for what is finished and executing are next.
        ended: the output was complete, the lease still held.
    """

    started: float
    connected: float
    listing: float
    begun: float
    ended: float

    @property
    def connecting(self) -> float:
        """Seconds until Ray was there; next to none if it was before."""
        return self.connected - self.started

    @property
    def execution(self) -> float:
        """Seconds from the start of the coordinator to `_SUCCESS`."""
        return self.ended - self.begun


def of_small_objects(fetch: type, detect: type, object_bytes: int) -> Stages:
    """Stages of a chain, in blocks that shrink as the objects do.

    So a run has as many blocks as with real photographs.

    Args:
        fetch: made and called as `Fetch` is.
        detect: made and called as `Detector` is.
        object_bytes: of what stands for an encoded image.
    """
    share = PHOTOGRAPH_BYTES // object_bytes
    return Stages(fetch, detect, {device: size // share for device, size in BLOCK_BYTES.items()})


def list_input(
    config: Config,
    layout: Layout,
    weights: Weights,
    object_bytes: int,
    slice_rows: int = SLICE_ROWS,
) -> Manifest:
    """Make the manifest of a run; the images' sizes are known in it, so no store is asked.

    Args:
        config: of the run.
        layout: of its output.
        weights: of the run.
        object_bytes: of what stands for an encoded image.
        slice_rows: images of a slice.
    """
    listed = enumeration.write(config, layout, _mark(config, weights), slice_rows=slice_rows)
    listed = replace(listed, known_bytes=listed.rows * object_bytes)
    manifest.save(listed, layout)
    return listed


def execute(
    config: Config,
    weights: Weights,
    chain: Stages,
    object_bytes: int,
    slice_rows: int = SLICE_ROWS,
    on_begun: Callable[[], None] = lambda: None,
) -> tuple[Summary, Steps]:
    """Execute or resume a run as `runner.run` does once it has weights.

    Args:
        config: of the run.
        weights: of the run; what `config.weights` says does not count.
        chain: the stages.
        object_bytes: of what stands for an encoded image.
        slice_rows: images of a slice, of a new manifest.
        on_begun: called between listing and executing, where measurements begin anew.

    Raises:
        RunError, UsageError, LeaseLost, OSError, ray.exceptions.RayError: it broke off.
    """
    layout = Layout.of(config.output)
    since, started = time.monotonic(), time.time()
    connection.connect()
    connected = time.time()
    placement = connection.place(config)
    with Lease(layout) as lease:
        listing = 0.0
        if not manifest.load(layout, _mark(config, weights)):
            before = time.monotonic()
            list_input(config, layout, weights, object_bytes, slice_rows)
            listing = time.monotonic() - before
        run = attempt.begin(config, weights, layout, lease, placement, chain)
        on_begun()
        begun = time.time()
        summary = run.run(stages.no_engine, since)
        return summary, Steps(started, connected, listing, begun, time.time())


def _mark(config: Config, weights: Weights) -> str:
    return fingerprint(record.identity(config, weights))
