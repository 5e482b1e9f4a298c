"""Encoded bytes to micro-batches of pixels, on threads and ahead of their use."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from pipeline.cluster.client import Client
from pipeline.config import Config
from pipeline.errors import Code, Failure
from pipeline.images import tiling
from pipeline.images.decode import DecodeError, Header, Samples, decode, read_header
from pipeline.images.depth import is_low_contrast
from pipeline.images.tiff_regions import Region, within
from pipeline.network.contract import Boxes

T = TypeVar("T")

# pixels decoded at once for one micro-batch, beyond which it is cut; 64 megapixels are 192 MB
MICRO_BATCH_PIXELS = 64_000_000
MICRO_BATCHES_AHEAD = 2
# of the tiles of images that are decoded together; only the last one may have places to spare
MICRO_BATCHES_OF_TILES = 8


@dataclass
class Outcome:
    """What becomes of one image in the replica."""

    image_id: int
    uri: str
    encoded: pa.Buffer | None = None
    header: Header | None = None
    region: Region | None = None  # of a large image, which it is; its file has more than that
    whole: str | None = None  # the URI of that image
    views: int = 1  # that the network will be given of it
    shape: tuple[int, int] = (0, 0)  # the padded one of the whole
    tile_shape: tuple[int, int] = (0, 0)  # the padded one of its tiles, if it has some
    began: float = math.inf  # when its decoding did
    boxes: Boxes | None = None
    window_boxes: list[int] | None = None  # of a region, how many each of its windows has
    size: tuple[int, int] | None = None
    recovered_share: float | None = None
    error: Failure | None = None

    @property
    def done(self) -> bool:
        return self.error is not None or self.boxes is not None

    def places(self, height: int, width: int, config: Config) -> np.ndarray:
        """The views of it that the network is given: [N, 4] x0, y0, x1, y1 in its pixels."""
        if self.region and not self.region.overview and config.tile:
            size = self.region.height, self.region.width
            return tiling.tiles(*size, config.tile, config.tile_overlap)
        tile = None if self.region else config.tile
        return tiling.views(height, width, tile, config.tile_overlap)


class Loader:
    """Plans micro-batches and decodes them. Thread-safe."""

    def __init__(
        self,
        config: Config,
        threads: int,
        padded_shape: Callable[[int, int], tuple[int, int]],
        client: Client,
    ) -> None:
        """
        Args:
            config: the run's.
            threads: that decode.
            padded_shape: of the engine, for a height and a width.
            client: of the run's coordinator.
        """
        self.config = config
        self.samples = Samples(config.depth_range, config.bands)
        self.padded_shape = padded_shape
        self.client = client
        # its own, so that planning does not wait for what other calls have decoded
        self.header_reader = ThreadPoolExecutor(1)
        self.decoders = ThreadPoolExecutor(threads)

    def plan(self, outcomes: list[Outcome], micro_batch: int) -> list[list[Outcome]]:
        """Images for one micro-batch, all of one padded shape, or, of those with tiles, whose tiles
        fill some; made from the headers alone.

        Images whose header will not do are not among them, and have their error.
        """
        reads = [self.header_reader.submit(self._read_header, outcome) for outcome in outcomes]
        for outcome, read in zip(outcomes, reads, strict=True):
            self._within_limit(outcome, read)
        ready = [outcome for outcome in outcomes if not outcome.done]
        groups: list[list[Outcome]] = []
        pixels = views = 0
        for outcome in sorted(ready, key=lambda outcome: (outcome.tile_shape, outcome.shape)):
            assert outcome.size
            pixels += outcome.size[0] * outcome.size[1]
            views += outcome.views
            if (
                groups
                and pixels <= MICRO_BATCH_PIXELS
                and _fits(outcome, groups[-1][0], views, micro_batch)
            ):
                groups[-1].append(outcome)
            else:
                groups.append([outcome])
                pixels, views = outcome.size[0] * outcome.size[1], outcome.views
        return groups

    def _read_header(self, outcome: Outcome) -> None:
        outcome.began = time.monotonic()
        assert outcome.encoded is not None
        try:
            header = read_header(outcome.encoded, self.config.max_pixels, self.samples)
            outcome.header, outcome.size = header, (header.width, header.height)
            self._plan_views(outcome, header)
        except DecodeError as error:
            outcome.error = Failure("decode", error.code, str(error))
        except ValueError as error:
            outcome.error = Failure("forward", Code.TOO_THIN, str(error))
        outcome.began = math.inf

    def _plan_views(self, outcome: Outcome, header: Header) -> None:
        views = outcome.places(header.height, header.width, self.config)
        outcome.shape = self.padded_shape(*(views[0, 2:] - views[0, :2])[::-1].tolist())
        outcome.views = len(views)
        if len(views) > 1 or outcome.region:
            x0, y0, x1, y1 = views[-1].tolist()
            outcome.tile_shape = self.padded_shape(y1 - y0, x1 - x0)

    def load(
        self, groups: list[list[Outcome]]
    ) -> Iterator[tuple[list[Outcome], list[np.ndarray | DecodeError]]]:
        """The groups with their pixels; the next ones are decoded while the caller works.

        No more of them once the run is told to stop.
        """
        ahead: deque[tuple[list[Outcome], list[Future[np.ndarray | DecodeError]]]] = deque()
        for group in [*groups, *[[]] * MICRO_BATCHES_AHEAD]:
            ahead.append((group, [self.decoders.submit(self._decode, o) for o in group]))
            if len(ahead) > MICRO_BATCHES_AHEAD:
                first, pixels = ahead.popleft()
                if self.client.stopping:
                    return
                yield first, [self._within_limit(*pair) for pair in zip(first, pixels, strict=True)]

    def _decode(self, outcome: Outcome) -> np.ndarray | DecodeError:
        outcome.began = time.monotonic()
        assert outcome.header
        is_deep, orientation = outcome.header.is_deep, outcome.header.orientation
        try:
            pixels = decode(outcome.header, self.config.accept_truncated)
            outcome.recovered_share = outcome.header.recovered_share
        except DecodeError as error:
            return error
        finally:
            outcome.header = None  # frees Pillow's copy of the pixels
            self.client.add(seconds_decode=time.monotonic() - outcome.began)
        if outcome.region:
            pixels = within(pixels, outcome.region, orientation)
        outcome.size = (pixels.shape[1], pixels.shape[0])
        if is_deep and not outcome.region and is_low_contrast(pixels):
            self.client.low_contrast(outcome.uri)
        return pixels

    def _within_limit(self, outcome: Outcome, future: Future[T]) -> T:
        """The result of a decoding thread. A thread cannot be ended, but its process can."""
        limit = self.config.decode_timeout
        while True:
            try:
                return future.result(timeout=limit)
            except TimeoutError:
                if time.monotonic() - outcome.began >= limit:
                    message = f"decoding took longer than decode_timeout, which is {limit:g} s"
                    failure = Failure("decode", Code.DECODE_TIMEOUT, message)
                    self.client.condemn(outcome.image_id, failure, outcome.whole)
                    self.client.die(message)


def _fits(outcome: Outcome, first: Outcome, views: int, micro_batch: int) -> bool:
    """Whether an image goes with another one and those after it, which are so many views then."""
    if outcome.tile_shape != first.tile_shape:
        return False
    if outcome.views > 1:
        return views <= MICRO_BATCHES_OF_TILES * micro_batch
    return outcome.shape == first.shape and views <= micro_batch
