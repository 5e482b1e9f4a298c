"""`jobs.evaluate` as a command: what it prints and writes, and how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from jobs import evaluate as job
from tests.support import synthetic
from tests.support.instances import CONTIGUOUS, instances
from tests.support.outputs import rows

# instances of which nothing was drawn, with the name of the only category left open
ONE_IMAGE = (
    '{"images": [{"id": 1, "file_name": "q.jpg"}], "annotations": [], '
    '"categories": [{"id": 1, "name": "%s"}]}'
)


def test_signatures_and_escape_codes_stay_inside(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    signed = "https://host/\x1b[2J\n.jpg?X-Amz-Signature=secret"
    absent = "https://host/gone\x1b\ud800.jpg?X-Amz-Signature=secret"
    output = synthetic.write(tmp_path / "out", 3, names=["a.jpg", "b.jpg", "c.jpg"])

    def renamed(table: pa.Table) -> pa.Table:
        uris = [signed, *table["image_uri"].to_pylist()[1:]]
        return synthetic.replaced(table, "image_uri", uris)

    synthetic.rewrite(next((output / "detections/status=ok").iterdir()), renamed)
    truth = {
        "images": [{"id": 1, "file_name": "b.jpg"}, {"id": 2, "file_name": absent}],
        "annotations": [],
        "categories": [{"id": 1, "name": "cup"}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    arguments = [str(output), "--annotations", str(tmp_path / "gt.json")]
    assert job.main([*arguments, "--to", str(tmp_path / "ev")]) == 0
    out, err = capfd.readouterr()
    written = (tmp_path / "ev/metrics.json").read_text() + (tmp_path / "ev/metrics.txt").read_text()
    for text in (out, written):
        assert "secret" not in text and "\x1b" not in text and "\\u001b" not in text
    assert err == ""


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = synthetic.write(tmp_path / "out", 20)
    instances(tmp_path / "gt.json", rows(str(output)), CONTIGUOUS)
    arguments = [str(output), "--annotations", str(tmp_path / "gt.json")]
    assert job.main([*arguments, "--to", str(tmp_path / "gt.json" / "x")]) == 2
    printed = capsys.readouterr()
    assert "AP50" in printed.out and "cannot write" in printed.err
    assert f"export {output} --format coco --to export --category person=" in printed.out


def test_more_than_coco_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As tiles find them: said, since precision and recall are of fewer boxes then."""
    output = synthetic.write(tmp_path / "out", 2, names=["a.jpg", "b.jpg"])

    def crowded(table: pa.Table) -> pa.Table:
        box = {"xmin": 1.0, "ymin": 1.0, "xmax": 9.0, "ymax": 9.0, "score": 0.5}
        cups = [box | {"label_id": 47, "label": "cup"}] * 130
        dogs = [box | {"label_id": 18, "label": "dog"}] * 100
        table = synthetic.replaced(table, "detections", [cups + dogs, cups[:101]])
        return synthetic.replaced(table, "num_detections", [230, 101])

    synthetic.rewrite(next((output / "detections/status=ok").iterdir()), crowded)
    instances(tmp_path / "gt.json", rows(str(output)), CONTIGUOUS)
    assert job.main([str(output), "--annotations", str(tmp_path / "gt.json")]) == 0
    said = "31 detections beyond the best 100 per image and category: COCO's metrics leave"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    "content,flags,complaint",
    [
        ("{", [], "is not valid instances JSON"),
        ('{"images": [], "annotations": []}', [], "lists no images or no categories"),
        (None, [], "it does not exist"),
        (ONE_IMAGE % "cup", [], "no image of"),
        (ONE_IMAGE % "x", [], "rename the classes to the categories"),
        (ONE_IMAGE % "cup", ["--image-key", "coco"], "has no column 'coco'"),
        (
            '{"images": [{"id": 1}], "annotations": [{"image_id": 1, "category_id": 1}], '
            '"categories": [{"id": 1, "name": "cup"}]}',
            [],
            "1 without a box or a polygon",
        ),
    ],
)
def test_one_line_for_each_mistake(
    tmp_path: Path,
    content: str | None,
    flags: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    synthetic.write(tmp_path / "out", 3)
    if content is not None:
        (tmp_path / "gt.json").write_text(content)
    arguments = [str(tmp_path / "out"), "--annotations", str(tmp_path / "gt.json"), *flags]
    assert job.main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and complaint in printed


def test_without_a_package_that_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("hotcoco", "pycocotools.coco"):
        monkeypatch.setitem(sys.modules, name, None)
    output = synthetic.write(tmp_path / "out", 20)
    instances(tmp_path / "gt.json", rows(str(output)), CONTIGUOUS)
    assert job.main([str(output), "--annotations", str(tmp_path / "gt.json")]) == 2
    assert "pip install hotcoco" in capsys.readouterr().err
