"""Which regions large images are read in: their headers, read by ranges."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from pipeline.cluster.client import Client
from pipeline.config import Config
from pipeline.errors import Code, Failure
from pipeline.images.depth import Samples
from pipeline.images.errors import DecodeError
from pipeline.images.tiff_overviews import Suits, chosen
from pipeline.images.tiff_plan import plan
from pipeline.images.tiff_regions import Region, StoredImage
from pipeline.stages.download import Downloader
from pipeline.stages.fetch import LOOK_SECONDS
from pipeline.stages.reads import begun
from pipeline.stages.regions import REGION, WHOLE_BYTES, WHOLE_SIZE, WHOLE_URI
from pipeline.stages.stored import StoredImages, Unread
from pipeline.words import explain

# headers of images read at once
PLANNERS = 8
ERROR = ("error_stage", "error_code", "error_message")
Row = dict[str, Any]
T = TypeVar("T")


class Planner:
    """Reads headers of large images, for their regions."""

    def __init__(self, config: Config, client: Client, suits: Suits | None) -> None:
        """
        Args:
            config: the run's; its `tile` is not None.
            client: of the run's coordinator.
            suits: see `tiff_overviews.chosen`; None where overviews are not used.
        """
        self.config = config
        self.suits = suits
        self.stored = StoredImages(config, Downloader(config, client))
        self.threads = ThreadPoolExecutor(PLANNERS)

    def close(self) -> None:
        """Begin nothing more, and wait for nothing."""
        self.threads.shutdown(wait=False, cancel_futures=True)

    def rows(
        self, images: list[Row], first: int, check: Callable[[], None]
    ) -> Iterator[tuple[Row, list[Row]]]:
        """The row of `IMAGES` of each, and the rows of its regions.

        Args:
            images: `image_id`, `image_uri` and `image_bytes` of each.
            first: id of the first one's first region.
            check: called again and again, however long a read takes.
        """
        plans = [self.threads.submit(self._planned, image) for image in images]
        for image, plan_of_it in zip(images, plans, strict=True):
            planned = _result(plan_of_it, check)
            row = {"image_id": image["image_id"], "first": first, "regions": 0}
            regions: list[Row] = []
            if isinstance(planned, Failure):
                row |= dict(zip(ERROR, planned, strict=True))
            else:
                width, height, regions = planned
                row |= {"width": width, "height": height, "regions": len(regions)}
            first += len(regions)
            yield row, regions

    def _planned(self, image: Row) -> tuple[int, int, list[Row]] | Failure:
        """Width, height and the rows of the regions, without the header, which may be large."""
        config = self.config
        assert config.tile
        samples = Samples(config.depth_range, config.bands)
        file = image["image_uri"], image["image_bytes"]
        try:
            stored = begun(self.stored.header(*file)).result()
            if not stored:
                raise DecodeError(Code.NOT_AN_IMAGE, "it is no longer a TIFF")
            limits = (config.tile, config.tile_overlap, config.max_pixels)
            regions = plan(stored, *limits, samples)
            rows = [_row(image, stored, region) for region in regions]
            if suits := self.suits:
                wanted = (config.max_pixels, config.max_object_bytes, samples, suits)
                reading = self.stored.of_overviews(
                    *file, stored, lambda some: chosen(some, *wanted)
                )
                found = begun(reading).result()
                if found:
                    region, overview = found
                    rows.insert(0, _row(image, overview, region))
            return stored.width, stored.height, rows
        except Unread as error:
            return Failure("fetch", str(error.outcome.code), str(error))
        except DecodeError as error:
            return Failure("decode", error.code, str(error))
        except Exception as error:  # of damaged tags; the outcome of its image
            return Failure("decode", Code.CORRUPT, explain(error))


def _result(future: Future[T], check: Callable[[], None]) -> T:
    while True:
        check()
        with contextlib.suppress(TimeoutError):
            return future.result(timeout=LOOK_SECONDS)


def _row(image: Row, stored: StoredImage, region: Region) -> Row:
    x, y, width, height, overview = region
    where = f"overview={width}x{height}" if overview else f"xywh={x},{y},{width},{height}"
    return {
        "image_uri": f"{image['image_uri']}#{where}",
        "size_bytes": sum(end - start for start, end in stored.parts(region)),
        WHOLE_URI: image["image_uri"],
        WHOLE_BYTES: image["image_bytes"],
        WHOLE_SIZE: [stored.width, stored.height],
        REGION: list(region),
    }
