"""`--annotations`: results.json with the ids of a ground truth, or a line that says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import synthetic
from tests.support.exports import expected, run


def write(path: Path, names: list[str], categories: tuple[str, ...] = synthetic.NAMES) -> str:
    content = {
        "images": [{"id": f"img-{n}", "file_name": name} for n, name in enumerate(names)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(categories, start=70)],
        "annotations": [],
    }
    path.write_text(json.dumps(content))
    return str(path)


def results(folder: Path) -> dict[Any, int]:
    """Number of detections of each image."""
    found: dict[Any, int] = {}
    for entry in json.loads((folder / "results.json").read_text()):
        found[entry["image_id"]] = found.get(entry["image_id"], 0) + 1
    return found


def test_names_in_another_spelling(tmp_path: Path) -> None:
    output = synthetic.write(tmp_path / "out", 9, names=[f"é {n}.jpg" for n in range(9)])
    names = [f"x\\e\u0301%20{number}.jpg" for number in range(9)]
    truth = write(tmp_path / "gt.json", names, tuple(map(str.upper, synthetic.NAMES)))
    assert run(output, tmp_path / "a", "--annotations", truth) == 0
    boxes = {f"img-{name[2:]}": len(rows) for name, rows in expected(output).items() if rows}
    assert results(tmp_path / "a") == boxes and len(boxes) > 5


def test_folders_that_differ_count_only_where_none_agree(tmp_path: Path) -> None:
    names = [f"{folder}/{n}.jpg" for folder in ("cam1", "cam2") for n in range(3)]
    output = synthetic.write(tmp_path / "out", 6, 20, names=names)
    truth = write(tmp_path / "gt.json", names[3:])
    assert run(output, tmp_path / "a", "--annotations", truth) == 0
    counts = json.loads((tmp_path / "a/export.json").read_text())["counts"]
    assert counts["images_not_in_annotations"] == 3
    of_cam2 = synthetic.write(tmp_path / "cam2", 3, 20, names=names[3:])
    assert run(of_cam2, tmp_path / "b", "--annotations", truth) == 0
    for folder in ("a", "b"):
        found = results(tmp_path / folder)
        assert found and set(found) <= {"img-0", "img-1", "img-2"}


@pytest.mark.parametrize(
    "names,categories,complaint",
    [
        (["elsewhere.jpg"], synthetic.NAMES, "the annotations have 'elsewhere.jpg'"),
        (
            ["a/0.jpg"],
            ("cat", "zebra"),
            "has none of the classes as a category; rename them with --classes",
        ),
        (["0.jpg"], synthetic.NAMES, "both match image img-0"),
        (["a%2f0.jpg", "./a/%30.jpg"], synthetic.NAMES, "list two images"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path,
    names: list[str],
    categories: tuple[str, ...],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = synthetic.write(tmp_path / "out", 3, names=["a/0.jpg", "b/0.jpg", "c/2.jpg"])
    truth = write(tmp_path / "gt.json", names, categories)
    assert run(output, tmp_path / "a", "--annotations", truth) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "a/export.json").exists()
    assert not (tmp_path / "a/results.json").exists()


def test_only_the_listed_images_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = synthetic.write(tmp_path / "out", 3, 20, names=["a/0.jpg", "b/0.jpg", "c/2.jpg"])
    truth = write(tmp_path / "gt.json", ["0.jpg"])
    for name, code in (("b/0.jpg", 0), ("c/2.jpg", 2)):
        (tmp_path / "list.txt").write_text(f"s3://bucket/images/{name}\n")
        flags = ("--annotations", truth, "--images", str(tmp_path / "list.txt"))
        assert run(output, tmp_path / name[0], *flags) == code
    assert "give the annotations of these images" in capsys.readouterr().err
