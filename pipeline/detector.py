"""The replica: rows with encoded bytes in, finished rows out, one for one."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch

from pipeline import storage
from pipeline.config import Config
from pipeline.decode import DecodeError, Header, decode, read_header
from pipeline.engine import Boxes
from pipeline.model import Weights
from pipeline.progress import Progress
from pipeline.schema import ROW, detections

log = logging.getLogger(__name__)

# pixels decoded at once for one micro-batch, beyond which it is cut; 64 megapixels are 192 MB
MICRO_BATCH_PIXELS = 64_000_000
MICRO_BATCHES_AHEAD = 2


class Engine(Protocol):
    """What turns pixels into boxes; see `pipeline.engine.Engine`."""

    def padded_shape(self, height: int, width: int) -> tuple[int, int]: ...

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]: ...


# builds the engine of a replica from the weights, "cuda" or "cpu", and a number of threads
EngineFactory = Callable[[Weights, str, int], Engine]


@dataclass
class Outcome:
    """What became of one image in the replica."""

    header: Header | None = None
    shape: tuple[int, int] = (0, 0)
    boxes: Boxes | None = None
    size: tuple[int, int] | None = None
    error: tuple[str, str, str] | None = None  # stage, code, message


@dataclass(frozen=True)
class Replica:
    """What a replica needs to know beside the weights."""

    config: Config
    device: str
    threads: int
    micro_batch: int
    run_id: str


class Detector:
    """Decode threads and an engine; decoding overlaps with the forward.

    Thread-safe: called from several threads, one call decodes while another one's micro-batch is
    in the network. Micro-batches hold only images of one padded shape, so no image's boxes depend
    on what else is in the run.
    """

    def __init__(
        self,
        replica: Replica,
        weights: ray.ObjectRef,
        make_engine: EngineFactory,
        progress: Progress,
    ) -> None:
        progress.join()
        self.replica = replica
        loaded: Weights = ray.get(weights)
        self.categories = loaded.categories
        self.model_id = loaded.model_id
        self.progress = progress
        self.engine = make_engine(loaded, replica.device, replica.threads)
        self.micro_batch = replica.micro_batch
        self.forward_lock = threading.Lock()
        self.decoders = ThreadPoolExecutor(replica.threads)

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """
        Args:
            rows: what `Fetch` yields.

        Yields:
            One table with the columns of `schema.ROW`, `status` and the carried columns, in the
            same order.
        """
        outcomes = [Outcome() for _ in range(rows.num_rows)]
        for group, decoded in self._decoded(self._planned(rows, outcomes)):
            by_shape: dict[tuple[int, int], list[tuple[Outcome, np.ndarray]]] = {}
            for outcome, pixels in zip(group, decoded, strict=True):
                if isinstance(pixels, DecodeError):
                    outcome.error = ("decode", pixels.code, str(pixels))
                else:  # not always the planned shape: a header may tell too little
                    shape = self.engine.padded_shape(*pixels.shape[:2])
                    by_shape.setdefault(shape, []).append((outcome, pixels))
            for ready in by_shape.values():
                self._forward(ready)
            failed = sum(outcome.error is not None for outcome in group)
            self.progress.add(images=len(group), errors=failed)
        yield self._table(rows, outcomes)
        self.progress.flush()

    def _planned(self, rows: pa.Table, outcomes: list[Outcome]) -> list[list[Outcome]]:
        """Micro-batches of one padded shape, made from the headers alone."""
        failed = rows["error_code"].to_pylist()
        for index, (encoded, outcome) in enumerate(zip(rows["encoded"], outcomes, strict=True)):
            if failed[index]:
                continue
            try:
                header = read_header(encoded.as_buffer(), self.replica.config.max_pixels)
                outcome.header, outcome.size = header, (header.width, header.height)
                outcome.shape = self.engine.padded_shape(header.height, header.width)
            except DecodeError as error:
                outcome.error = ("decode", error.code, str(error))
            except ValueError as error:
                outcome.error = ("forward", "too_thin", str(error))
        ready = [outcome for outcome in outcomes if outcome.header and not outcome.error]
        self.progress.add(images=len(outcomes) - len(ready), errors=len(outcomes) - len(ready))
        groups: list[list[Outcome]] = []
        pixels = 0
        for outcome in sorted(ready, key=lambda outcome: outcome.shape):
            assert outcome.size
            pixels += outcome.size[0] * outcome.size[1]
            if (
                groups
                and outcome.shape == groups[-1][0].shape
                and len(groups[-1]) < self.micro_batch
                and pixels <= MICRO_BATCH_PIXELS
            ):
                groups[-1].append(outcome)
            else:
                groups.append([outcome])
                pixels = outcome.size[0] * outcome.size[1]
        return groups

    def _decoded(
        self, groups: list[list[Outcome]]
    ) -> Iterator[tuple[list[Outcome], list[np.ndarray | DecodeError]]]:
        """The groups with their pixels; the next ones are decoded while the caller works."""
        ahead: deque[tuple[list[Outcome], list[Future[np.ndarray | DecodeError]]]] = deque()
        for group in groups:
            ahead.append((group, [self.decoders.submit(self._decode, o) for o in group]))
            if len(ahead) > MICRO_BATCHES_AHEAD:
                first, pixels = ahead.popleft()
                yield first, [future.result() for future in pixels]
        for first, pixels in ahead:
            yield first, [future.result() for future in pixels]

    def _decode(self, outcome: Outcome) -> np.ndarray | DecodeError:
        started = time.monotonic()
        assert outcome.header
        try:
            pixels = decode(outcome.header)
        except DecodeError as error:
            return error
        finally:
            outcome.header = None  # frees Pillow's copy of the pixels
            self.progress.add(seconds_decode=time.monotonic() - started)
        outcome.size = (pixels.shape[1], pixels.shape[0])
        return pixels

    def _forward(self, ready: list[tuple[Outcome, np.ndarray]]) -> None:
        """Run the network on images of one padded shape, in halves where memory is short."""
        waiting = deque([ready])
        while waiting:
            part = waiting.popleft()
            try:
                with self.forward_lock:
                    started = time.monotonic()
                    found = self.engine([pixels for _, pixels in part])
                    self.progress.add(seconds_forward=time.monotonic() - started)
            except torch.OutOfMemoryError as error:
                torch.cuda.empty_cache()
                if len(part) > 1:
                    self.micro_batch = max(1, len(part) // 2)
                    log.warning("GPU memory is short: micro-batch is now %d", self.micro_batch)
                    waiting.extend([part[: self.micro_batch], part[self.micro_batch :]])
                else:
                    part[0][0].error = ("forward", "out_of_memory", storage.explain(error))
            except torch.AcceleratorError:  # the device is lost to this process, not one image
                raise
            except Exception as error:  # one image must not take its neighbours along
                if len(part) > 1:
                    waiting.extend([image] for image in part)
                else:
                    part[0][0].error = ("forward", "forward_failed", storage.explain(error))
            else:
                for (outcome, _), boxes in zip(part, found, strict=True):
                    outcome.boxes = boxes

    def _table(self, rows: pa.Table, outcomes: list[Outcome]) -> pa.Table:
        fetch_errors = zip(
            *(rows[f"error_{part}"].to_pylist() for part in ("stage", "code", "message")),
            strict=True,
        )
        errors = [
            outcome.error or error for outcome, error in zip(outcomes, fetch_errors, strict=True)
        ]
        sizes = [outcome.size or (None, None) for outcome in outcomes]
        found = [outcome.boxes for outcome in outcomes]
        columns = {
            "image_id": rows["image_id"],
            "image_uri": rows["image_uri"],
            "image_bytes": _image_bytes(rows),
            "width": [width for width, _ in sizes],
            "height": [height for _, height in sizes],
            "detections": detections(found, self.categories),
            "num_detections": [None if boxes is None else len(boxes.labels) for boxes in found],
            "model_id": [self.model_id] * rows.num_rows,
            "run_id": [self.replica.run_id] * rows.num_rows,
            "error_stage": [stage for stage, _, _ in errors],
            "error_code": [code for _, code, _ in errors],
            "error_message": [message for _, _, message in errors],
            "attempts": rows["attempts"],
        }
        table = pa.table([columns[name] for name in ROW.names], schema=ROW)
        status = pa.array(["error" if code else "ok" for _, code, _ in errors], pa.string())
        table = table.append_column("status", status)
        ours = {*ROW.names, "encoded", "size_bytes"}
        for field in rows.schema:
            if field.name not in ours:
                table = table.append_column(field, rows[field.name])
        return table


def _image_bytes(rows: pa.Table) -> pa.Array:
    listed = rows["size_bytes"].to_pylist()
    read = pc.binary_length(rows["encoded"]).to_pylist()
    pairs = zip(read, listed, strict=True)
    return pa.array([size if size is not None else known for size, known in pairs], pa.int64())
