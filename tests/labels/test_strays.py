"""Annotations that do not fit the run: either the right figure, or none and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from jobs import evaluate as job
from pipeline.labels.export.exporter import export
from pipeline.labels.export.target import Options
from tests.support import synthetic
from tests.support.outputs import rows

IMAGES = 20
Content = dict[str, Any]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of images whose names can be written in several ways."""
    names = [f"Zelle é {number}.jpg" for number in range(IMAGES)]
    return synthetic.write(tmp_path_factory.mktemp("strays") / "out", IMAGES, names=names)


def perfect(output: Path) -> Content:
    """Annotations that are the run's own detections, so that AP is 1."""
    ids = {name: k for k, name in enumerate(synthetic.NAMES, start=1)}
    found = rows(str(output))
    boxes = [(row["image_id"] + 500, box) for row in found for box in row["detections"] or []]
    return {
        "images": [
            {"id": row["image_id"] + 500, "file_name": row["image_uri"].rpartition("/")[2]}
            for row in found
        ],
        "categories": [{"id": k, "name": name} for name, k in ids.items()],
        "annotations": [
            {
                "id": number,
                "image_id": image_id,
                "category_id": ids[box["label"]],
                "bbox": [
                    box["xmin"],
                    box["ymin"],
                    box["xmax"] - box["xmin"],
                    box["ymax"] - box["ymin"],
                ],
            }
            for number, (image_id, box) in enumerate(boxes, start=1)
        ],
    }


def evaluated(output: Path, content: Content, folder: Path, *flags: str) -> int:
    (folder / "gt.json").write_text(json.dumps(content))
    arguments = [str(output), "--annotations", str(folder / "gt.json"), "--to", str(folder / "ev")]
    return job.main([*arguments, *flags])


def each(key: str, name: str, change: Callable[[Any], Any]) -> Callable[[Content], None]:
    def apply(content: Content) -> None:
        for entry in content[key]:
            entry[name] = change(entry[name])

    return apply


def with_urls(content: Content) -> None:
    for entry in content["images"]:
        entry["coco_url"] = f"http://host/val/{quote(entry.pop('file_name'))}"


def with_an_unused_twin(content: Content) -> None:
    each("categories", "name", str.title)(content)
    content["categories"].append({"id": 9, "name": "person"})


def with_odd_ones(content: Content) -> None:
    for number, box in enumerate(content["annotations"][:40]):
        x, y, width, height = box["bbox"]
        if number % 2:
            box["area"] = float("nan")
        else:
            box["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
            box["bbox"] = None


@pytest.mark.parametrize(
    "change",
    [
        lambda content: None,
        each("annotations", "image_id", str),
        each("images", "id", str),
        each("images", "id", float),
        each("categories", "id", str),
        each("annotations", "category_id", float),
        each("images", "file_name", quote),
        each("images", "file_name", lambda name: name.replace("é", "e\u0301")),
        each("images", "file_name", lambda name: f"C:\\work\\{name}"),
        each("images", "file_name", lambda name: f"images\\{quote(name)}"),
        each("categories", "name", str.upper),
        with_an_unused_twin,
        with_urls,
        with_odd_ones,
    ],
    ids=(
        "as-it-is image_id-text id-text id-float category-text category-float escaped decomposed "
        "windows backslash-escaped upper-case twin coco_url odd"
    ).split(),
)
def test_a_perfect_run_is_perfect(
    output: Path, tmp_path: Path, change: Callable[[Content], None]
) -> None:
    content = perfect(output)
    change(content)
    assert evaluated(output, content, tmp_path) == 0
    found = json.loads((tmp_path / "ev/metrics.json").read_text())
    assert found["metrics"]["AP"] == pytest.approx(1)
    assert found["absent"]["count"] == found["without_truth"]["count"] == 0
    assert found["annotations_left_out"] == {} == found["left_out"]


def test_a_tool_that_writes_a_class_in_another_case(output: Path, tmp_path: Path) -> None:
    export(str(output), Options(format="voc", to=str(tmp_path / "voc")))
    for path in (tmp_path / "voc").rglob("*.xml"):
        path.write_text(path.read_text().replace("<name>car<", "<name>Car<"))
    where = ["--annotations", str(tmp_path / "voc"), "--to", str(tmp_path / "ev")]
    assert job.main([str(output), *where]) == 0
    found = json.loads((tmp_path / "ev/metrics.json").read_text())
    assert found["metrics"]["AP"] == pytest.approx(1)


def test_a_class_in_two_cases(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = perfect(output)
    content["categories"].append({"id": 9, "name": "Person"})
    persons = [box for box in content["annotations"] if box["category_id"] == 1][::2]
    for box in persons:
        box["category_id"] = 9
    assert evaluated(output, content, tmp_path) == 0
    said = f"{len(persons)} annotations of categories that are not classes of the run, counted as"
    assert f"{said} not found: 'Person'" in capsys.readouterr().out


def test_some_that_do_not_fit_are_counted_and_named(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = perfect(output)
    content["categories"].append({"id": 9, "name": "zebra"})
    boxes = content["annotations"]
    boxes += [boxes[0] | {"image_id": "none"}, [], boxes[0] | {"bbox": None}, None]
    boxes += [boxes[0] | {"category_id": 9}]
    assert evaluated(output, content, tmp_path) == 0
    printed = capsys.readouterr().out
    assert (
        "4 annotations left out: 2 that are not JSON objects, 1 of an image that the file does "
        "not list, 1 without a box or a polygon"
    ) in printed
    assert (
        "1 annotations of categories that are not classes of the run, counted as not found: 'zebra'"
        in printed
    )
    found = json.loads((tmp_path / "ev/metrics.json").read_text())
    assert sum(found["annotations_left_out"].values()) == 4
    assert [c["AP"] for c in found["categories"]] == [pytest.approx(1)] * 5 + [0]


def other_images(content: Content) -> None:
    for entry in content["images"][5:]:
        entry["file_name"] = f"other-{entry['file_name']}"


def other_classes(content: Content) -> None:
    for entry in content["categories"]:
        entry["name"] = {"person": "pedestrian", "car": "Auto"}.get(entry["name"], entry["name"])


@pytest.mark.parametrize(
    "change,complaint,way",
    [
        (
            each("annotations", "image_id", lambda k: k - 500),
            "of an image that the",
            "give the original",
        ),
        (
            each("annotations", "category_id", lambda k: k + 80),
            "of a category that the",
            "give the original",
        ),
        (other_images, "of images that the run does not have", "--present-only leaves out"),
        (
            other_classes,
            "categories that are not classes of the run .*'pedestrian', 'Auto'",
            "--clas",
        ),
    ],
)
def test_most_that_do_not_fit_end_in_an_error(
    output: Path,
    tmp_path: Path,
    change: Callable[[Content], None],
    complaint: str,
    way: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = perfect(output)
    change(content)
    assert evaluated(output, content, tmp_path) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and not (tmp_path / "ev").exists()
    assert re.search(complaint, captured.err)
    assert way in captured.err and captured.err.count("\n") == 1


def test_what_to_do_then_works(output: Path, tmp_path: Path) -> None:
    content = perfect(output)
    other_images(content)
    assert evaluated(output, content, tmp_path, "--present-only") == 0
    found = json.loads((tmp_path / "ev/metrics.json").read_text())
    assert found["metrics"]["AP"] == pytest.approx(1) and found["images"] == 5
    content = perfect(output)
    other_classes(content)
    names = dict.fromkeys(synthetic.NAMES) | {"person": "pedestrian", "car": "auto"}
    (tmp_path / "classes.yaml").write_text(json.dumps(names))
    assert evaluated(output, content, tmp_path, "--classes", str(tmp_path / "classes.yaml")) == 0
    found = json.loads((tmp_path / "ev/metrics.json").read_text())
    assert found["metrics"]["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    "classes,left_out",
    [
        (["dog"], "'person', 'bicycle', 'car', 'cup'"),
        (dict.fromkeys(synthetic.NAMES) | {"car": "thing", "cup": "thing"}, "'car', 'cup'"),
    ],
)
def test_classes_that_are_not_kept_are_not_measured(
    output: Path, tmp_path: Path, classes: Any, left_out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "classes.yaml").write_text(json.dumps(classes))
    content = perfect(output)
    content["categories"].append({"id": 9, "name": "zebra"})
    content["annotations"].append(content["annotations"][0] | {"category_id": 9})
    assert evaluated(output, content, tmp_path, "--classes", str(tmp_path / "classes.yaml")) == 0
    found = json.loads((tmp_path / "ev/metrics.json").read_text())
    named = {category["name"]: category["AP"] for category in found["categories"]}
    kept = [name for name in synthetic.NAMES if f"'{name}'" not in left_out]
    assert named == {**dict.fromkeys(kept, pytest.approx(1)), "zebra": 0}
    (count,) = found["annotations_left_out"].values()
    said = f"{count:,} of classes that --classes leaves out or renames ({left_out})"
    printed = capsys.readouterr().out
    assert f"{count:,} annotations left out: {said}" in printed
    assert "1 annotations of categories that are not classes of the run" in printed


@pytest.mark.parametrize("key", ["image_id", "width", "run_id", "num_detections"])
def test_columns_that_hold_no_ids_of_the_annotations(
    output: Path, tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = perfect(output)
    each("images", "id", lambda k: k - 499)(content)  # one beside the run's own numbers
    each("annotations", "image_id", lambda k: k - 499)(content)
    assert evaluated(output, content, tmp_path, "--image-key", key) == 2
    said = capsys.readouterr().err
    assert (
        f"--image-key {key} is" in said
        and "--carry" in said
        and "match images by their names" in said
    )
    assert evaluated(output, content, tmp_path, "--image-key", "image_uri") == 0
    assert evaluated(output, content, tmp_path, "--image-key", "coco_id") == 2
    assert "has no column 'coco_id'" in capsys.readouterr().err


def test_two_images_of_the_truth_are_one_of_the_run(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = perfect(output)
    name = content["images"][0]["file_name"]
    content["images"] += [{"id": 900 + n, "file_name": f"{'./' * n}{quote(name)}"} for n in (1, 2)]
    assert evaluated(output, content, tmp_path) == 0  # one is called exactly so
    del content["images"][0]
    content["annotations"] = [box for box in content["annotations"] if box["image_id"] != 500]
    assert evaluated(output, content, tmp_path) == 2
    assert "list two images" in capsys.readouterr().err
