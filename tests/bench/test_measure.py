"""The benchmark of the engine, with a network and images so small that it says nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from pipeline.bench.extent import EXTENTS, Extent

SMALL = {"min_size": 64, "max_size": 128, "rpn_post_nms_top_n_test": 40}
TINY = Extent(
    "cpu",
    images=3,
    batch=2,
    micro_batch=1,
    rounds=2,
    seconds=0,
    piped=16,
    rows_per_file=8,
    model=SMALL,
    threads=1,
)
ROW_FIELDS = {
    "name",
    "images_per_second",
    "ratio_to_eager",
    "matched",
    "matched_loosely",
    "share_of_floor",
    "counts_differ",
    "peak_memory",
    "warm_up_seconds",
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What the command prints, and its figures."""
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    code = f"""
import sys
sys.modules["ray"] = None
import torch
torch.cuda.is_available = lambda: False
torch.set_num_threads(1)
from jobs import bench
from pipeline.bench.extent import EXTENTS, Extent
EXTENTS["cpu", True] = {TINY!r}
sys.exit(bench.main(["--quick", "--no-pipeline", "--json", {str(path)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(path.read_text())


def test_figures_without_ray(measured: tuple[str, dict[str, Any]]) -> None:
    _, figures = measured
    assert "cores" in figures["device"]
    rows = {row["name"]: row for row in figures["rows"]}
    assert list(rows) == ["eager", "arrival", "bucketed", "engine"]
    for row in rows.values():
        assert row.keys() >= ROW_FIELDS
        assert len(row["rounds"]) == TINY.rounds
        assert min(row["rounds"]) <= row["images_per_second"] <= max(row["rounds"])
        assert min(row["share_of_floor"], row["ratio_to_eager"]) > 0
        assert 0 <= row["matched"] <= row["matched_loosely"] <= 1
    assert figures["reference_detections"] > 10
    assert (rows["eager"]["matched"], rows["eager"]["ratio_to_eager"]) == (1, 1)
    assert rows["engine"]["matched"] == 1
    assert figures["pipeline"] is None


def test_the_table(measured: tuple[str, dict[str, Any]]) -> None:
    text, figures = measured
    assert figures["device"] in text and "TFLOP/s: fp32 " in text
    assert f"{figures['gflop_per_image']:.0f} GFLOP an image" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(figures["rows"])
    assert len({line.count("|") for line in lines}) == 1
    assert "| 100.00% | 100.00% | 0 |" in lines[2]
    assert "No autocast row" in text and "End to end" not in text


def test_every_device_has_both_extents() -> None:
    assert set(EXTENTS) == {
        (device, quick) for device in ("cuda", "cpu") for quick in (True, False)
    }
    assert all(extent.device == device for (device, _), extent in EXTENTS.items())
