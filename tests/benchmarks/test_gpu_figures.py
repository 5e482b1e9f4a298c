"""What `benchmarks.gpu` makes of results: how far boxes moved, decisions, the table; and int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from benchmarks.compared import Moves, average_precision, moved
from benchmarks.gpu import folder, table, visit
from benchmarks.gpu.moves import DECIDING, decide
from benchmarks.gpu.plan import Asked
from benchmarks.gpu.record import Record
from pipeline.network.contract import Boxes


def boxes(*xyxy: tuple[float, float, float, float], scores: list[float] | None = None) -> Boxes:
    return Boxes(
        xyxy=np.array(xyxy, np.float32).reshape(-1, 4),
        labels=np.ones(len(xyxy), np.int64),
        scores=np.array(scores or [0.9] * len(xyxy), np.float32),
    )


def test_how_far_boxes_move() -> None:
    reference = [boxes((0, 0, 100, 100), (200, 200, 300, 300)), boxes()]
    ours = [boxes((0, 0, 100, 101), scores=[0.8]), boxes((0, 0, 9, 9))]
    moves = moved(ours, reference)
    assert (moves.boxes, moves.tight, moves.loose, moves.counts_differ) == (2, 0, 0, 2)
    assert moves.score_mean == pytest.approx(0.1) and moves.score_max == pytest.approx(0.1)
    assert (moves.corner_mean, moves.corner_p99, moves.corner_max) == (1, 1, 1)
    assert moved(reference, reference).data() == {
        **dict.fromkeys(moves.data(), 0),
        **{"boxes": 2, "tight": 1, "loose": 1},
    }


def test_average_precision(capsys: pytest.CaptureFixture[str]) -> None:
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 3}],
        "categories": [{"id": 1}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 1, "bbox": [1, 2, 30, 40], "area": 1200}
            | {"iscrowd": 0}
        ],
    }
    truth.createIndex()
    capsys.readouterr()
    perfect = average_precision([boxes((1, 2, 31, 42))], [3], truth)
    assert perfect == {"AP": pytest.approx(1), "AP50": pytest.approx(1)}
    assert average_precision([boxes()], [3], truth) == {"AP": 0, "AP50": 0}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("factor", "word"), [(0.5, "within"), (1.04, "within"), (1.06, "further")])
def test_a_precision_is_decided_by_what_it_moves(tmp_path: Path, factor: float, word: str) -> None:
    figures = dict.fromkeys(Moves.__dataclass_fields__, 1.0)
    record = Record("moves", Asked("cuda", False, None, str(tmp_path), ""))
    # whichever of the four goes too far
    for figure in DECIDING:
        moves = Moves(**{**figures, figure: factor})  # type: ignore[arg-type]
        decide(record, "800: fp16 kernels", moves, Moves(**figures))  # type: ignore[arg-type]
    for row in visit.rows(tmp_path / "results.jsonl"):
        assert row["note"].startswith(f"{word}; x score ")
        assert row["within"] == (word == "within")
        assert sorted(row["ratios"]) == sorted([1, 1, 1, factor])


def test_a_table_ends_with_rates() -> None:
    rows: list[dict[str, Any]] = [
        {"stage": "rates", "what": "loop", "rate": 70.0, "to_loop": 1.0, "floor": 0.1},
        {"stage": "rates", "what": "device", "note": "NVIDIA H200", "shown": False},
        {"stage": "rates", "what": "fp16 plain", "failed": "ValueError: " + 200 * "x"},
        {"stage": "sweep", "what": "fp16 plain, micro-batch 8", "rate": 1234.5},
    ]
    outcomes = [visit.Outcome("rates", visit.FAILED, 1, "why"), visit.Outcome("sweep", visit.OK, 2)]
    text = table.table(rows, outcomes)
    lines = text.splitlines()
    assert lines[0].split() == ["sweep", "images/s"]
    assert lines[2].split() == ["fp16", "plain,", "micro-batch", "8", "1234.5"]
    assert lines[4].split() == ["rates", "images/s", "x", "loop", "of", "peak"]
    assert lines[6].split() == ["loop", "70.0", "1.00", "10.0%"]
    assert lines[7].startswith("fp16 plain") and "failed: ValueError: xxx" in lines[7]
    assert lines[-2].split() == ["rates", "1.0", "failed:", "why"]
    assert max(map(len, lines)) <= table.WIDTH


def test_weights_as_int8() -> None:
    torch.manual_seed(0)
    state = {
        "conv.weight": torch.randn(6, 3, 3, 3)
        * torch.tensor([1e-6, 1, 1, 1, 10, 1e6])[:, None, None, None],
        "fc.weight": torch.randn(4, 5).half(),
        "bias": torch.randn(4),
        "count": torch.tensor(7),
        "zero": torch.zeros(2, 3),
    }
    packed = folder.packed(state)
    assert {name for name, x in packed.items() if x.dtype == torch.int8} == {
        "conv.weight",
        "fc.weight",
        "zero",
    }
    found = folder.unpacked(packed)
    assert list(found) == list(state)
    for name, x in state.items():
        if x.ndim < 2:
            assert torch.equal(found[name], x)
            continue
        # a step of each channel's own
        step = x.float().flatten(1).abs().amax(1) / 127
        off = (found[name] - x.float()).flatten(1).abs().amax(1)
        assert (off <= 0.501 * step).all() and found[name].dtype == torch.float32
    again = folder.packed(packed)
    assert all(torch.equal(again[name], x) for name, x in packed.items())


def test_a_row_that_is_cut_off_is_left_out(tmp_path: Path) -> None:
    Record("one", Asked("cpu", True, None, str(tmp_path), "")).say("whole", value=1)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"stage": "one", "wh')
    assert [row["what"] for row in visit.rows(tmp_path / "results.jsonl")] == ["whole"]
