"""One object, one box: the same as torchvision's suppression of boxes that have no labels."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torchvision.ops import nms

from jobs import export, report, select
from pipeline.errors import UsageError
from pipeline.labels import boxes, classes, pairs
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.doubles import without_doubles
from pipeline.labels.output import open_output
from tests.support import synthetic


def crowded(random: np.random.Generator, counts: list[int]) -> BoxBatch:
    """Images with so many boxes, many of them near each other, of few different scores."""
    m = sum(counts)
    low = random.uniform(0, 60, (m, 2))
    xyxy = np.concatenate([low, low + random.uniform(20, 60, (m, 2))], 1).astype(np.float32)
    scores = random.integers(1, 30, m).astype(np.float32) / 30
    order = np.lexsort((-scores, np.repeat(np.arange(len(counts)), counts)))
    return BoxBatch(
        ids=np.arange(len(counts)),
        uris=[f"{i}.jpg" for i in range(len(counts))],
        sizes=np.full((len(counts), 2), 120),
        starts=np.concatenate([[0], np.cumsum(counts)]),
        labels=random.integers(1, 5, m),
        scores=scores[order],
        xyxy=xyxy,
    )


@pytest.mark.parametrize("at_once", [pairs.AT_ONCE, 50])
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7, 0.95])
def test_as_torchvision(iou: float, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs.enumerated, "__defaults__", (at_once,))
    found = crowded(np.random.default_rng(1), [0, 40, 1, 0, 150, 7, 2, 0])
    single = without_doubles(found, iou)
    assert iou == 0.95 or len(single.labels) < len(found.labels)
    for before, after in zip(found.images(), single.images(), strict=True):
        kept = nms(torch.from_numpy(before.xyxy), torch.from_numpy(before.scores), iou).numpy()
        assert after.xyxy.tolist() == before.xyxy[kept].tolist()
        assert after.classes.tolist() == before.classes[kept].tolist()
        assert after.scores.tolist() == before.scores[kept].tolist()


def test_off_by_default() -> None:
    found = crowded(np.random.default_rng(1), [20])
    assert without_doubles(found, None) is found


@pytest.mark.parametrize("iou", [0.0, 1.0, -0.5, float("nan")])
def test_no_iou(iou: float) -> None:
    with pytest.raises(UsageError, match="--agnostic-nms must be above 0 and below 1"):
        classes.choose({1: "car"}, agnostic_nms=iou)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("doubles") / "out", 200, 30)


def kept(output: Path, iou: float) -> tuple[int, int]:
    """Boxes that are left, and doubles."""
    single = total = 0
    for table in open_output(str(output)).tables(boxes.COLUMNS, ("ok",)):
        found = boxes.from_table(table)
        total += len(found.labels)
        single += len(without_doubles(found, iou).labels)
    assert 0 < single < total
    return single, total - single


def test_an_export_says_so(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--format", "coco", "--to", str(tmp_path / "a"), "--agnostic-nms", "0.5"]
    assert export.main([str(output), *flags]) == 0
    single, left_out = kept(output, 0.5)
    record = json.loads((tmp_path / "a/export.json").read_text())
    assert record["agnostic_nms"] == 0.5
    assert (record["counts"]["boxes"], record["counts"]["doubles_left_out"]) == (single, left_out)
    content = json.loads((tmp_path / "a/instances.json").read_text())
    assert len(content["annotations"]) == single
    assert f"{left_out:,} boxes of an object that has a better box" in capsys.readouterr().out


def test_a_report_says_so(output: Path, tmp_path: Path) -> None:
    flags = ["--to", str(tmp_path / "r.html"), "--pictures", "0", "--agnostic-nms", "0.5"]
    assert report.main([str(output), *flags]) == 0
    html = (tmp_path / "r.html").read_text()
    single, left_out = kept(output, 0.5)
    assert f"{single:,} in all" in html
    assert f"{left_out:,} doubles (IoU above 0.5) left out" in html


def test_a_selection_counts_each_object_once(output: Path, tmp_path: Path) -> None:
    crowding = {}
    for name, flags in (("all", []), ("single", ["--agnostic-nms", "0.5"])):
        to = tmp_path / f"{name}.jsonl"
        assert select.main([str(output), "--budget", "200", "--to", str(to), *flags]) == 0
        rows = map(json.loads, to.read_text().splitlines())
        crowding[name] = {row["image_id"]: row["crowding"] for row in rows}
    fewer = [crowding["single"][i] < n for i, n in crowding["all"].items()]
    assert any(fewer)
    assert all(crowding["single"][i] <= n for i, n in crowding["all"].items())


@pytest.mark.parametrize("job", [export, report, select])
def test_usage(
    job: ModuleType, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {
        export: ["--format", "coco", "--to", str(tmp_path / "a")],
        report: ["--to", str(tmp_path / "r.html")],
        select: ["--budget", "1", "--to", str(tmp_path / "l.csv")],
    }[job]
    assert job.main([str(output), *flags, "--agnostic-nms", "7"]) == 2
    error = capsys.readouterr().err
    assert "--agnostic-nms must be above 0 and below 1, not 7" in error and error.count("\n") == 1
