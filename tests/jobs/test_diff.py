"""`jobs.diff` as a command: what it counts, writes and refuses."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import diff, export
from pipeline.labels.diff.pairing import KINDS
from tests.support import changed, outputs, photographed, synthetic


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, bytes]
) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("diff")
    output = photographed.write(base, photographs)
    return output, changed.write(base / "other", output)


def told(a: Path, b: Path, to: Path, *flags: str) -> dict[str, Any]:
    """What the JSON says."""
    assert diff.main([str(a), str(b), "--json", str(to / "diff.json"), *flags]) == 0
    found: dict[str, Any] = json.loads((to / "diff.json").read_text())
    return found


def shown(output: Path, threshold: float = 0.5) -> list[tuple[str, float]]:
    rows = [row for row in outputs.rows(str(output)) if row["status"] == "ok"]
    found = [(d["label"], d["score"]) for row in rows for d in row["detections"]]
    return [(label, score) for label, score in found if score >= threshold]


def test_every_box_is_counted_once(both: tuple[Path, Path], tmp_path: Path) -> None:
    found = told(*both, tmp_path)
    boxes = found["boxes"]
    assert boxes["a"] == len(shown(both[0])) and boxes["b"] == len(shown(both[1]))
    paired = sum(boxes[kind] for kind in ("same", "moved", "relabelled"))
    assert paired + boxes["fell"] + boxes["only_a"] == boxes["a"]
    assert paired + boxes["rose"] + boxes["only_b"] == boxes["b"]
    assert all(boxes[kind] for kind in KINDS)
    for side, output in zip("ab", both, strict=True):
        for entry in found["categories"]:
            number = sum(label == entry["name"] for label, _ in shown(output))
            assert entry[side] == number
    assert sum(pair["boxes"] for pair in found["confusions"]) == boxes["relabelled"]
    assert all(pair["a"] != pair["b"] for pair in found["confusions"])
    assert found["images"] | {"changed": 0} == {
        "compared": 10,
        "changed": 0,
        "only_a": 0,
        "only_b": 0,
        "failed_a": 0,
        "failed_b": 0,
        "failed_both": 3,
        "resized": 0,
        "replaced": 0,
    }


def test_with_itself_nothing_has_changed(
    both: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--to", str(tmp_path / "diff.html"), "--list", str(tmp_path / "changed.csv")]
    found = told(both[0], both[0], tmp_path, *files)
    assert found["images"]["changed"] == 0
    assert found["boxes"]["same"] == found["boxes"]["a"] == len(shown(both[0]))
    assert "No image has changed." in (tmp_path / "diff.html").read_text()
    assert (tmp_path / "changed.csv").read_text().count("\n") == 1
    printed = capsys.readouterr().out
    assert "10 images compared, by URI; 0 changed" in printed and "look at them" not in printed


def test_the_list_is_ranked_and_taken_by_an_export(
    both: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "changed.parquet"
    found = told(*both, tmp_path, "--list", str(path))
    rows = pq.read_table(path).to_pylist()
    assert len(rows) == found["images"]["changed"] == 8
    assert "look at them" in capsys.readouterr().out
    assert [row["rank"] for row in rows] == [*range(1, 9)]
    changes = [row["change"] for row in rows]
    assert changes == sorted(changes, reverse=True) and changes[-1] > 0
    for kind in set(KINDS) - {"same"}:
        assert sum(row[kind] for row in rows) == found["boxes"][kind]
    flags = ["--images", str(path), "--format", "coco", "--to", str(tmp_path / "coco")]
    assert export.main([str(both[0]), *flags]) == 0
    assert json.loads((tmp_path / "coco/export.json").read_text())["counts"]["images"] == 8


def test_classes_align_the_names_of_both(both: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("cell: thing\n'Zähne 歯 & Co': thing\n")
    found = told(*both, tmp_path, "--classes", str(tmp_path / "classes.yaml"))
    assert [entry["name"] for entry in found["categories"]] == ["thing"]
    assert found["boxes"]["relabelled"] == 0 and found["confusions"] == []
    kept = [box for box in shown(both[0]) if not box[0].startswith("</script>")]
    assert found["boxes"]["a"] == len(kept)


def test_one_box_an_object(
    both: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = told(*both, tmp_path)
    flags = ["--agnostic-nms", "0.05", "--list", str(tmp_path / "changed.csv")]
    single = told(*both, tmp_path, *flags)
    assert "--score-threshold 0.5 --agnostic-nms 0.05 --format" in capsys.readouterr().out
    assert 0 < single["boxes"]["a"] < every["boxes"]["a"]
    assert single["agnostic_nms"] == 0.05 and every["agnostic_nms"] is None


def test_what_cannot_be_compared_is_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{n:03d}.jpg" for n in range(250)]
    a = synthetic.write(tmp_path / "a", 250, 4, names=names)  # 99 and 199 fail
    b = synthetic.write(tmp_path / "b", 250, 4, names=[*names[1:], "x.jpg"])  # 100 and 200 do

    def square(table: pa.Table, first: int) -> pa.Table:
        for side in ("width", "height"):
            table = synthetic.replaced(table, side, [first, *[640] * (len(table) - 1)])
        sizes = [first, first, first, None if first == 640 else 1, *[1000] * (len(table) - 4)]
        return synthetic.replaced(table, "image_bytes", sizes)

    for output, first in ((a, 640), (b, 641)):
        (file,) = (output / "detections/status=ok").iterdir()
        synthetic.rewrite(file, partial(square, first=first))
    found = told(a, b, tmp_path)
    assert found["images"] | {"changed": 0} == {
        "compared": 242,
        "changed": 0,
        "only_a": 1,
        "only_b": 1,
        "failed_a": 2,
        "failed_b": 2,
        "failed_both": 0,
        "resized": 1,
        "replaced": 2,
    }
    printed = capsys.readouterr().out
    folder = "s3://bucket/images"
    for line in (
        f"1 image only in A: {folder}/000.jpg",
        f"1 image only in B: {folder}/x.jpg",
        f"2 images failed in A only, not compared: {folder}/099.jpg, {folder}/199.jpg\n",
        f"2 images failed in B only, not compared: {folder}/100.jpg, {folder}/200.jpg\n",
        f"1 image of another size in B, not compared: {folder}/001.jpg",
        f"2 images with another file in B, not compared: {folder}/002.jpg, {folder}/004.jpg\n",
    ):
        assert line in printed


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--score-threshold", "1.5"], "--score-threshold must be within 0 and 1"),
        (["--score-threshold", "0.01"], "below 0.05, from which the run of A kept boxes"),
        (["--iou", "0"], "--iou must be above 0 and at most 1, not 0"),
        (["--agnostic-nms", "1"], "--agnostic-nms must be above 0 and below 1, not 1"),
        (["--list", "x.doc"], "--list must end in .parquet, .csv"),
        (["--to", "."], "is a folder; give the name of a file, such as diff.html"),
        (["--json", "/"], "is a folder; give the name of a file, such as diff.json"),
        (["--pictures", "3"], "--pictures goes with --to"),
        (["--pictures", "-3", "--to", "d.html"], "--pictures must be within 0 and 1000"),
        (["--thresold", "1"], "unknown argument '--thresold'"),
        (["--annotations", "nowhere.json"], "nowhere.json"),
    ],
)
def test_usage(
    both: tuple[Path, Path], flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diff.main([*map(str, both), *flags]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_one_output_is_missing(
    both: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diff.main([str(both[0]), str(tmp_path)]) == 2
    assert "is not an output of prelabel detect" in capsys.readouterr().err
    assert diff.main([str(both[0])]) == 2
    assert "required: B" in capsys.readouterr().err
