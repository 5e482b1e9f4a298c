"""The replica: rows with encoded bytes in, finished rows out, one for one."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from pipeline.cluster.client import Client
from pipeline.config import Config
from pipeline.errors import Code, Failure
from pipeline.images.decode import DecodeError
from pipeline.images.tiff_regions import Region
from pipeline.network.contract import Boxes, DeviceLost, EngineFactory, ShortOfMemory, Weights
from pipeline.outputs.schema import LARGE
from pipeline.stages.micro_batches import Loader, Outcome
from pipeline.stages.regions import REGION, WHOLE_URI, are_regions
from pipeline.stages.rows import finished_rows, with_shares, with_windows
from pipeline.stages.views import View, cut, joined
from pipeline.words import explain

log = logging.getLogger(__name__)
# the id, in a ledger, of an image that cannot be the cause of a death
BLANK = -1


@dataclass(frozen=True)
class Replica:
    """What a replica needs to know beside the weights."""

    config: Config
    device: str
    threads: int
    micro_batch: int
    run_id: str


class Detector:
    """A loader and an engine; decoding overlaps with the forward.

    Thread-safe: called from several threads, one call decodes while another one's micro-batch is
    in the network. Micro-batches hold only images of one padded shape, so no image's boxes depend
    on what else is in the run.
    """

    def __init__(
        self,
        replica: Replica,
        weights: ray.ObjectRef[Any],
        make_engine: EngineFactory,
        client: Client,
    ) -> None:
        client.join()
        self.replica = replica
        loaded: Weights = ray.get(weights)
        self.categories = loaded.categories
        self.model_id = loaded.model_id
        self.client = client
        self.engine = make_engine(loaded, replica.device, replica.threads, replica.config.precision)
        client.add(**{f"engine {self.engine.name}": 1})
        self.micro_batch = replica.micro_batch
        self.forwards = threading.Semaphore(self.engine.in_flight)
        self.forward_ended = 0.0
        self.warm = False
        self.alone_lock = threading.Lock()
        shape = self.engine.padded_shape
        self.loader = Loader(replica.config, replica.threads, shape, client)
        client.ready()

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """
        Args:
            rows: what `Fetch` yields.

        Yields:
            One table with the columns of `schema.ROW`, `status`, the carried columns and those of
            options, in the same order. Without the images that were not begun when the run was
            told to stop.
        """
        ids = rows["image_id"].to_pylist()
        wholes = rows[WHOLE_URI].to_pylist() if are_regions(rows) else ()
        begun = self.client.begin(ids, wholes)
        if begun is None:
            return
        outcomes = _outcomes(rows, begun.condemned)
        self._count([outcome for outcome in outcomes if outcome.done])
        waiting = [outcome for outcome in outcomes if not outcome.done]
        if begun.suspicious:
            self._detect_alone(waiting)
        else:
            self._detect(waiting)
        if any(outcome.done for outcome in outcomes):
            run_id = self.replica.run_id
            finished = finished_rows(rows, outcomes, self.categories, self.model_id, run_id)
            if outcomes[0].region:
                finished = with_windows(finished, outcomes)
            elif self.replica.config.accept_truncated is not None:
                finished = with_shares(finished, outcomes)
            yield finished
        self.client.end(ids)

    def _detect_alone(self, outcomes: list[Outcome]) -> None:
        """One image at a time, so that it is known which one kills this process."""
        with self.alone_lock:
            for outcome in outcomes:
                if self.client.stopping or not self._is_sound():
                    return
                outcome.error = self.client.begin_alone(
                    outcome.image_id, outcome.whole or outcome.uri, outcome.whole
                )
                if outcome.error:
                    self._count([outcome])
                else:
                    self._detect([outcome])
                    self.client.end_alone(outcome.image_id)

    def _is_sound(self) -> bool:
        """Whether this process, after many deaths in a row, lives to see a blank image through."""
        if not self.client.in_doubt:
            return True
        if failure := self.client.begin_alone(BLANK, "blank"):
            self.client.broken(f"even with a blank one: {failure.message}")
            return False
        pixels = np.zeros((64, 64, 3), np.uint8)
        self._forward([View(Outcome(BLANK, "blank"), np.array([0, 0, 64, 64]), pixels)])
        self.client.end_alone(BLANK)
        return True

    def _detect(self, outcomes: list[Outcome]) -> None:
        groups = self.loader.plan(outcomes, self.micro_batch)
        self._count([outcome for outcome in outcomes if outcome.done])
        for group, decoded in self.loader.load(groups):
            images: list[list[View]] = []
            for outcome, pixels in zip(group, decoded, strict=True):
                if isinstance(pixels, DecodeError):
                    outcome.error = Failure("decode", pixels.code, str(pixels))
                else:
                    images.append(cut(outcome, pixels, self.replica.config))
            by_shape: dict[tuple[int, int], list[View]] = {}
            for view in itertools.chain(*images):
                # not always the planned shape: a header may tell too little
                shape = self.engine.padded_shape(*view.pixels.shape[:2])
                by_shape.setdefault(shape, []).append(view)
            for views in by_shape.values():
                self._forward(views)
            for views in images:
                views[0].outcome.boxes = joined(views)
            self._count([outcome for outcome in group if outcome.done])

    def _count(self, outcomes: list[Outcome]) -> None:
        self.client.add(regions=sum(o.region is not None for o in outcomes))
        # a large image is counted when it has its row
        outcomes = [o for o in outcomes if not (o.region or (o.error and o.error.code == LARGE))]
        failed = [(o.error.code, o.uri) for o in outcomes if o.error]
        for code, uri in failed:
            self.client.failed(code, uri)
        detections = sum(len(o.boxes.labels) for o in outcomes if o.boxes)
        self.client.add(images=len(outcomes), errors=len(failed), detections=detections)

    def _forward(self, views: list[View]) -> None:
        """Run the network on views of one padded shape, in halves where memory is short."""
        waiting = deque([views])
        while waiting:
            part = [view for view in waiting.popleft() if not view.outcome.error]
            if len(part) > self.micro_batch:
                size = self.micro_batch
                waiting.extend(part[i : i + size] for i in range(0, len(part), size))
                continue
            if not part:
                continue
            first, *others = part
            try:
                found = self._found(part)
            except ShortOfMemory as error:
                if others:
                    self.micro_batch = max(1, len(part) // 2)
                    log.warning("GPU memory is short: micro-batch is now %d", self.micro_batch)
                    waiting.append(part)
                else:
                    first.outcome.error = Failure("forward", Code.OUT_OF_MEMORY, explain(error))
            except DeviceLost as error:
                ids = {view.outcome.image_id for view in part}
                self.client.die(explain(error), ids.pop() if len(ids) == 1 else None)
            except Exception as error:  # one image must not take its neighbours along
                if others:
                    waiting.extend([view] for view in part)
                else:
                    first.outcome.error = Failure("forward", Code.FORWARD_FAILED, explain(error))
            else:
                if found is None:
                    return
                for view, boxes in zip(part, found, strict=True):
                    view.boxes = boxes

    def _found(self, part: list[View]) -> list[Boxes] | None:
        """What the network finds in a micro-batch; None once the run is told to stop."""
        ready_since = time.monotonic()
        with self.forwards:
            if self.client.stopping:  # told while another call's micro-batch was in the network
                return None
            called = time.monotonic()
            found = self.engine([view.pixels for view in part])
            ended = time.monotonic()
        # before that, the one ahead of it was computed
        started = min(ended, max(called, self.forward_ended))
        self.forward_ended = ended
        if self.warm:
            self.client.add(
                seconds_queue=started - ready_since,
                seconds_forward=ended - started,
                forwards=1,
                forwarded=len(part),
            )
        else:  # it is several times as slow as those that follow
            self.warm = True
            self.client.add(seconds_warm_up=ended - started)
        return found


def _outcomes(rows: pa.Table, condemned: dict[int, Failure]) -> list[Outcome]:
    """The images of a batch; those that failed before, or may not be touched, have their error."""
    names = ("image_id", "image_uri", "error_stage", "error_code", "error_message")
    columns = (rows[name].to_pylist() for name in names)
    outcomes = []
    for encoded, image_id, uri, *error in zip(rows["encoded"], *columns, strict=True):
        outcome = Outcome(image_id, uri, error=condemned.get(image_id))
        if error[1]:
            outcome.error = Failure(*error)
        else:
            outcome.encoded = encoded.as_buffer()
        outcomes.append(outcome)
    if are_regions(rows):
        columns = (rows[name].to_pylist() for name in (REGION, WHOLE_URI))
        for outcome, region, whole in zip(outcomes, *columns, strict=True):
            outcome.region, outcome.whole = Region(*region), whole
    return outcomes
