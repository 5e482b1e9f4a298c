"""How images are handed out."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.cluster.placement import Placement
from pipeline.config import Config
from pipeline.outputs.finished import Finished
from pipeline.outputs.manifest import Manifest
from pipeline.stages.chain import Chain, Stages


@pytest.mark.parametrize(
    "missing,replicas,image_bytes,rows",
    [
        (10_000_000, 8, 150_000, 256),
        (10_000_000, 8, 400_000, 128),  # a range stays within a block
        (10_000_000, 8, 4_000_000, 16),  # of 12 megapixels
        (10_000_000, 8, 500_000_000, 8),
        (3000, 8, 150_000, 32),  # few images: several ranges for each replica
        (10, 8, 150_000, 8),
    ],
)
def test_rows_of_a_range(missing: int, replicas: int, image_bytes: float, rows: int) -> None:
    nothing: Any = None
    placement = Placement("cuda", replicas, 1, 4, 0, 4, 1, 8, 4096)
    known = Manifest(rows=missing, duplicates=0, columns=[], slice_rows=missing)
    chain = Chain(
        config=Config(input="i", output="o"),
        manifest=known,
        placement=placement,
        weights=nothing,
        make_engine=nothing,
        writer=nothing,
        run_id="run",
        client=nothing,
        image_bytes=image_bytes,
        stages=Stages(),
    )
    assert chain._range_rows(Finished.of(nothing, known, 0)) == rows
