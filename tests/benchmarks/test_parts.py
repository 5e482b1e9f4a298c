"""What the programs are made of, as far as it runs without a cluster."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import null_run, scale_driver, scaling_driver, stages
from pipeline.outputs.layout import Layout
from pipeline.stages.chain import BLOCK_BYTES
from pipeline.stages.detect import Detector
from pipeline.stages.fetch import Fetch


def test_a_worker_imports_no_torch() -> None:
    told = "import sys, benchmarks.stages; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("stand_in", "real"),
    [(stages.NullReplica, Detector), (stages.sleeping(0.1), Detector), (stages.NullFetch, Fetch)],
)
def test_stand_ins_are_made_and_called_as_the_real_ones_are(stand_in: type, real: type) -> None:
    for name in ("__init__", "__call__"):
        names = [list(inspect.signature(getattr(c, name)).parameters) for c in (stand_in, real)]
        assert names[0] == names[1]


def test_blocks_shrink_as_objects_do() -> None:
    chain = null_run.of_small_objects(stages.NullFetch, stages.NullReplica, 1000)
    assert {name: size * 256 for name, size in chain.block_bytes.items()} == BLOCK_BYTES
    assert (chain.fetch, chain.detect) == (stages.NullFetch, stages.NullReplica)


def test_the_heap_after_a_slice_is_the_first_that_is_seen_after_its_seal(tmp_path: Path) -> None:
    layout = Layout.of(str(tmp_path))
    for index in range(2):
        path = Path(layout.seal(index))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    sealed = [Path(layout.seal(index)).stat().st_mtime for index in range(2)]
    own = [(sealed[0] - 1, 1 << 20), (sealed[1], 2 << 20), (sealed[1] + 1, 3 << 20)]
    assert scale_driver.after_slices(layout, own) == [2, 2]


def test_rates() -> None:
    batches = {"a": [(0.0, 5), (1.0, 10), (4.0, 10)], "b": [(2.0, 5), (3.0, 10), (6.0, 10)]}
    whole, together = scaling_driver.rates(batches)
    assert whole == (10 + 10 + 5 + 10 + 10) / 6
    # from 2, when the second one has done a batch, to 4, when the first one does its last
    assert together == (10 + 10) / 2
    assert math.isnan(scaling_driver.rates({"a": [(0.0, 1), (0.5, 1)]})[0])
