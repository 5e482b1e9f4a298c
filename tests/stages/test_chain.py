"""How images are handed out."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.bench import mix
from pipeline.bench.feed import bucketed
from pipeline.cluster.placement import Placement
from pipeline.config import MICRO_BATCH, Config
from pipeline.network.cost import Cost
from pipeline.outputs.finished import Finished
from pipeline.outputs.manifest import PART_ROWS, Manifest
from pipeline.stages.chain import RANGE_MICRO_BATCHES, Chain, Stages


@pytest.mark.parametrize(
    "missing,replicas,image_bytes,device,micro_batch,rows",
    [
        (10_000_000, 8, 150_000, "cuda", 16, 1024),  # so that micro-batches of 16 are full
        (10_000_000, 8, 150_000, "cpu", 1, 64),  # a kill costs two of them, and those before a file
        (10_000_000, 8, 400_000, "cuda", 16, 512),  # a range stays within a block
        (10_000_000, 8, 4_000_000, "cuda", 16, 64),  # of 12 megapixels
        (10_000_000, 8, 4_000_000, "cpu", 1, 16),
        (10_000_000, 8, 500_000_000, "cpu", 1, 8),
        (3000, 8, 150_000, "cuda", 16, 32),  # few images: several ranges for each replica
        (10, 8, 150_000, "cuda", 16, 8),
        (
            10_000_000,
            8,
            1_000,
            "cuda",
            2048,
            PART_ROWS,
        ),  # of one part, which is all that a fetch looks at
    ],
)
def test_rows_of_a_range(
    missing: int, replicas: int, image_bytes: float, device: str, micro_batch: int, rows: int
) -> None:
    nothing: Any = None
    placement = Placement(device, replicas, 1, 4, 0, 4, 1, micro_batch, 4096)
    known = Manifest(rows=missing, duplicates=0, columns=[], slice_rows=missing)
    chain = Chain(
        config=Config(input="i", output="o"),
        manifest=known,
        placement=placement,
        weights=nothing,
        make_engine=nothing,
        destination=nothing,
        run_id="run",
        client=nothing,
        image_bytes=image_bytes,
        stages=Stages(),
    )
    assert chain._range_rows(Finished.of(nothing, known, 0)) == rows


def test_ranges_of_photographs_fill_micro_batches() -> None:
    """To nine tenths and more, in the padded shapes of COCO's sizes."""
    micro_batch = MICRO_BATCH["cuda"]
    rows = RANGE_MICRO_BATCHES * micro_batch
    cost = Cost({})
    shapes = {size: cost.padded_shape(size[1], size[0]) for size in mix.SIZES}
    padded = [shapes[size] for size in mix.sizes(8 * rows)]
    batches = [
        batch
        for at in range(0, 8 * rows, rows)
        for batch in bucketed(padded[at : at + rows], micro_batch)
    ]
    assert len(padded) / len(batches) > 0.9 * micro_batch
