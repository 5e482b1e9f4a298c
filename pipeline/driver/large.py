"""Images larger than memory: their regions as a run of their own, then the one row of each.

Such an image first gets a row of status `large`. Once all others of its slice are done, its regions
are, by the same chain into an output of their own; then its row takes that one's place, and what
there is of the regions goes. Whatever is killed on the way, the rows of status `large` tell what is
still to be done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from pipeline import words
from pipeline.driver import regions
from pipeline.driver.assembly import Assembly, read
from pipeline.driver.planner import Planner, Row
from pipeline.driver.regions import Regions
from pipeline.images.tiff_overviews import Suits
from pipeline.outputs import schema
from pipeline.outputs.finished import Finished
from pipeline.stages.chain import Chain
from pipeline.stages.regions import FIELDS, REGION, RegionFetch
from pipeline.stages.rows import WINDOW_BOXES

log = logging.getLogger(__name__)
# executes a chain until nothing of what is given is missing
Process = Callable[[Chain, Finished], Chain]


def detect(
    chain: Chain,
    categories: dict[int, str],
    finished: Finished,
    process: Process,
    suits: Suits | None,
    check: Callable[[], None],
) -> Chain:
    """Give each large image of a slice its row.

    Args:
        chain: of the run.
        categories: label id to name.
        finished: of the slice, in which nothing is missing; it is to be loaded anew afterwards.
        process: of the attempt.
        suits: see `Planner`.
        check: of the watch over the run; called again and again while no execution is watched.

    Returns:
        The chain as it was last placed.
    """
    if finished.large.any():
        finished.load()  # also without repeats, of which each would be detected by itself
        ids = np.flatnonzero(finished.large) + finished.first_id
        found = _regions(chain, finished, ids, suits, check)
        number = words.count(found.manifest.rows, "region")
        log.info("%s in %s", words.count(len(ids), "large image"), number)
        inner = _chain_of(chain, found)
        chain.client.renumber()
        files: list[str] = []
        for index in found.manifest.slices:
            part = Finished.of(found.layout, found.manifest, index, check=finished.check)
            part.load()
            inner = process(inner, part)
            part.load()  # what a slice is sealed by
            files += part.files
        chain.client.renumber()
        Assembly(chain, categories, found, files).write(finished, check)
        chain.client.flush()
        chain = dataclasses.replace(chain, placement=inner.placement)
    regions.remove(finished.layout, finished.index, finished.check)
    return chain


def _regions(
    chain: Chain,
    finished: Finished,
    ids: np.ndarray,
    suits: Suits | None,
    check: Callable[[], None],
) -> Regions:
    layout, index, mark = finished.layout, finished.index, chain.manifest.fingerprint
    if found := regions.load(layout, index, mark, ids, finished.check):
        return found
    with contextlib.closing(Planner(chain.config, chain.client, suits)) as planner:
        return regions.write(layout, index, mark, _large(finished), planner, check)


def _large(finished: Finished) -> Iterator[Row]:
    """Id, URI and bytes of each large image."""
    names = ["image_id", "image_uri", "image_bytes"]
    for name in finished.large_files():
        yield from read(finished.layout, str(name), names).to_pylist()


def _chain_of(chain: Chain, found: Regions) -> Chain:
    """The run's chain for regions in the place of images."""
    config = dataclasses.replace(chain.config, output=found.layout.url, accept_truncated=None)
    written = schema.with_carried(pa.schema([FIELDS.field(REGION), WINDOW_BOXES]), {})
    known = found.manifest
    return dataclasses.replace(
        chain,
        config=config,
        manifest=known,
        destination=dataclasses.replace(chain.destination, output=found.layout.url, schema=written),
        image_bytes=max(1.0, known.known_bytes / max(1, known.rows)),
        stages=dataclasses.replace(chain.stages, fetch=RegionFetch),
        least_rows=1,
    )
