"""What the documents say was measured is what the results hold."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
ENGINE = (ROOT / "benchmarks/engine.md").read_text()


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RESULTS / name).read_text().splitlines()]


def said(section: str) -> list[list[str]]:
    """Cells of the tables of a section of the document."""
    text = re.split(r"^#+ ", ENGINE.partition(section)[2], flags=re.M)[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


SECOND = rows("h200_second.jsonl")
RATES = {row["what"]: row for row in rows("h200.jsonl") if row.get("stage") == "rates"}
MOVES = {row["what"]: row for row in rows("h200.jsonl") if row.get("stage") == "moves"}


@pytest.mark.parametrize(
    "prefix,cells",
    [
        *[("", cells) for cells in said("## On an H200")[2:]],
        *[("mix: ", cells) for cells in said("### A mix of shapes")[2:]],
    ],
    ids=lambda given: given if isinstance(given, str) else given[0],
)
def test_rates(prefix: str, cells: list[str]) -> None:
    name, rate, spread, to_loop, to_best, share, peak = cells
    row = RATES[prefix + name]
    assert rate == f"{statistics.median(row['rates']):.1f}"
    assert spread == f"{min(row['rates']):.1f} to {max(row['rates']):.1f}"
    assert (to_loop, to_best) == (f"{row['to_loop']:.2f}", f"{row['to_best']:.2f}")
    assert (share, peak) == (f"{row['floor']:.1%}", f"{row['peak']:.2f}")


@pytest.mark.parametrize("cells", said("### How far boxes move")[2:], ids=lambda c: " ".join(c[:2]))
def test_moves(cells: list[str]) -> None:
    side, name, tight, *figures, precision = cells
    row = MOVES[f"{side}: {name}"]
    assert tight == f"{row['tight']:.2%}"
    names = ("score_mean", "score_p99", "corner_mean", "corner_p99")
    assert figures == [f"{row[name]:.1e}" for name in names]
    assert precision == f"{row['AP']:.4f}"


def test_micro_batches() -> None:
    (_, *sizes), _, kernels, graphs, held = said("### Micro-batches and graphs")
    found = {row["what"]: row for row in SECOND if row.get("stage") == "sweep"}
    for name, *figures in (kernels, graphs):
        rates = [found[f"{name}, micro-batch {size}"]["rate"] for size in sizes]
        assert figures == [f"{rate:.1f}" for rate in rates]
    kept = [found[f"{graphs[0]}, micro-batch {size}"]["held"] for size in sizes]
    assert held[1:] == [f"{gigabytes:.2f}" for gigabytes in kept]


@pytest.mark.parametrize("cells", said("### Decoding beside the forward")[2:], ids=lambda c: c[0])
def test_decoding_beside_the_forward(cells: list[str]) -> None:
    found = {row["what"]: row for row in SECOND if row.get("stage") == "feed"}
    name, *figures, share = cells
    row = found[name]
    assert figures == [f"{row[key]:.0f}" for key in ("decode", "engine", "both")]
    assert share == f"{row['share']:.3f}"


def test_the_whole_run() -> None:
    found = {row["what"]: row for row in rows("h200_end_to_end.jsonl")}
    run, table = found["end to end"], {cells[0]: cells[1] for cells in said("### A whole run")[2:]}
    rates = [run["images_per_second_after_half"], run["images_per_second_steady"]]
    rates += [run["images"] / run["wall_seconds"]]
    assert [f"{rate:.0f}" for rate in rates] == list(table.values())[1:]
    assert found["verify"]["rows"] == found["verify"]["different_ids"] == run["images"] == 9216


def test_the_first_screen() -> None:
    table = re.findall(r"^\| .* \| (\d+)[ |]", (ROOT / "README.md").read_text(), re.M)[:5]
    names = ["loop", "autocast, channels last", "fp32 kernels+graphs"]
    names.append("fp16 kernels+graphs, micro-batch 16")
    (run,) = (row for row in rows("h200_end_to_end.jsonl") if row["what"] == "end to end")
    rates = [RATES[name]["rate"] for name in names] + [run["images_per_second_steady"]]
    assert table == [f"{rate:.0f}" for rate in rates]
