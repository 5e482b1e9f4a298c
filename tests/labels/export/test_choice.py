"""What goes into an export, under which names, into which folders, and what is refused."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pycocotools.coco import COCO

from benchmarks.readback import compare
from benchmarks.readers import stem
from benchmarks.readers.light import coco_pycocotools, cvat_labelformat
from pipeline.labels.export.exporter import export
from pipeline.labels.export.parts import FORMATS
from pipeline.labels.export.target import Options
from pipeline.labels.markup import valid
from tests.support import outputs, synthetic
from tests.support.exports import NAMES, by_base, expected, names_of, renamed, run


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of 60 images in three directories, one after the other."""
    names = [f"{'abc'[number // 20]}/{number:02d}.jpg" for number in range(60)]
    return synthetic.write(tmp_path_factory.mktemp("choice") / "out", 60, 6, 16, names=names)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of images whose names no file system would take as they are."""
    folder = tmp_path_factory.mktemp("hostile") / "out"
    return synthetic.write(folder, len(NAMES), 4, names=NAMES)


# ------------------------------------------------------------------------------- detections


def test_thresholds(output: Path, tmp_path: Path) -> None:
    limits = {"person": 0.7, "car": 0.2}
    assert (
        run(
            output,
            tmp_path / "a",
            "--score-threshold",
            "0.5",
            "--category",
            "person=0.7",
            "car=0.2",
        )
        == 0
    )
    truth = expected(output, lambda d: bool(np.float32(d["score"]) >= limits.get(d["label"], 0.5)))
    assert 0 < sum(map(len, truth.values())) < sum(map(len, expected(output).values()))
    assert compare(truth, by_base(coco_pycocotools(str(tmp_path / "a"))))[0] <= 0.0101
    record = json.loads((tmp_path / "a/export.json").read_text())
    left = sum(map(len, expected(output).values())) - sum(map(len, truth.values()))
    assert record["counts"]["boxes_left_out"] == left and record["thresholds"] == limits


def test_classes_selected_merged_and_renamed(output: Path, tmp_path: Path) -> None:
    names = {"car": "vehicle", "bicycle": "vehicle", "dog": "dog"}
    (tmp_path / "classes.yaml").write_text("car: vehicle\nbicycle: vehicle\ndog:\n")
    assert run(output, tmp_path / "a", "--classes", str(tmp_path / "classes.yaml")) == 0
    truth = renamed(expected(output), names)
    assert compare(truth, by_base(coco_pycocotools(str(tmp_path / "a"))))[0] <= 0.0101
    categories = COCO(str(tmp_path / "a/instances.json")).dataset["categories"]
    assert categories == [{"id": 2, "name": "vehicle"}, {"id": 18, "name": "dog"}]
    assert (
        run(output, tmp_path / "b", "--classes", str(tmp_path / "classes.yaml"), format="yolo") == 0
    )
    data = yaml.safe_load((tmp_path / "b/data.yaml").read_text())
    assert data["names"] == {0: "vehicle", 1: "dog"}


def test_results_have_the_ids_of_the_annotations(output: Path, tmp_path: Path) -> None:
    images = [{"id": f"img-{number}", "file_name": f"{number:02d}.jpg"} for number in range(1, 60)]
    categories = [{"id": 7, "name": "car"}, {"id": 9, "name": "person"}, {"id": 3, "name": "dog"}]
    (tmp_path / "truth.json").write_text(
        json.dumps({"images": images, "categories": categories, "annotations": []})
    )
    assert run(output, tmp_path / "a", "--annotations", str(tmp_path / "truth.json")) == 0
    results = json.loads((tmp_path / "a/results.json").read_text())
    ids = {entry["name"]: entry["id"] for entry in categories}
    truth = {
        f"img-{int(name)}": [row for row in rows if row[0] in ids]
        for name, rows in expected(output).items()
        if name != "00"
    }
    for image_id, rows in truth.items():
        of_image = [entry for entry in results if entry["image_id"] == image_id]
        assert [entry["category_id"] for entry in of_image] == [ids[row[0]] for row in rows]
    assert len(results) == sum(map(len, truth.values()))
    counts = json.loads((tmp_path / "a/export.json").read_text())["counts"]
    everything = sum(len(rows) for name, rows in expected(output).items() if name != "00")
    assert counts["images_not_in_annotations"] == 1
    assert counts["boxes_of_classes_not_in_annotations"] == everything - len(results)


def test_only_listed_images(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uris = [f"s3://bucket/images/{name}" for name in ("a/03.jpg", "c/41.jpg", "c/none.jpg")]
    pq.write_table(pa.table({"image_uri": uris, "rank": [1, 2, 3]}), tmp_path / "list.parquet")
    assert run(output, tmp_path / "a", "--images", str(tmp_path / "list.parquet")) == 0
    assert set(names_of(tmp_path / "a")) == set(uris[:2])
    assert "1 listed images that have no row with status ok" in capsys.readouterr().out
    (tmp_path / "list.txt").write_text("s3://elsewhere/a/03.jpg\n")
    assert run(output, tmp_path / "b", "--images", str(tmp_path / "list.txt")) == 2
    assert "none of the 1 images" in capsys.readouterr().err
    assert not (tmp_path / "b/export.json").exists()


# ------------------------------------------------------------------------------- names


@pytest.mark.parametrize("kind", [kind for kind, shard in FORMATS.items() if shard.named_files])
def test_names_of_any_text(kind: str, hostile: Path, tmp_path: Path) -> None:
    assert run(hostile, tmp_path / "out/a", format=kind) == 0
    names = names_of(tmp_path / "out/a")
    assert set(names) == {f"s3://bucket/images/{name}" for name in NAMES}
    stems = {unicodedata.normalize("NFC", stem(name).casefold()) for name in names.values()}
    assert len(stems) == len(NAMES)
    assert all(ord(c) >= 32 and c not in '<>:"|?*\\#%' for name in names.values() for c in name)
    assert not any(b.startswith(f"{a}/") for a in names.values() for b in names.values())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # nothing above the folder
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]
    if kind == "yolo":
        files = {
            str(path.relative_to(tmp_path / "out/a/labels/train").with_suffix(""))
            for path in (tmp_path / "out/a/labels/train").rglob("*.txt")
        }
        assert files == {stem(name) for name in names.values()}
        assert not any("/images/" in f"/{name}" for name in names.values())


def names_in(kind: str, folder: Path) -> list[str]:
    """The names of the images in an export, in its order."""
    if kind == "coco":
        images = json.loads((folder / "instances.json").read_text())["images"]
        return [image["file_name"] for image in images]
    if kind == "cvat":
        found = ElementTree.parse(folder / "annotations.xml").getroot().iter("image")
        return [str(image.get("name")) for image in found]
    if kind == "labelstudio":
        tasks = json.loads((folder / "tasks.json").read_text())
        return [unquote(task["data"]["image"]) for task in tasks]
    if kind == "fiftyone":
        return list(json.loads((folder / "data.json").read_text()).values())
    (file,) = (folder / "data").iterdir()
    return [image["path"] for image in pq.read_table(file)["image"].to_pylist()]


@pytest.mark.parametrize("kind", ["coco", "cvat", "labelstudio", "fiftyone", "huggingface"])
def test_names_stay_where_no_files_are_written(kind: str, hostile: Path, tmp_path: Path) -> None:
    assert run(hostile, tmp_path / "a", "--image-prefix", "p/", format=kind) == 0
    own = {f"s3://bucket/images/{name}": name.lstrip("/") for name in NAMES}
    assert names_of(tmp_path / "a") == own
    expected_names = [f"p/{name}" for name in own.values()]
    if kind == "cvat":  # XML cannot hold all
        expected_names = list(map(valid, expected_names))
    assert names_in(kind, tmp_path / "a") == expected_names
    if kind == "fiftyone":
        labels = json.loads((tmp_path / "a/labels.json").read_text())["labels"]
        places = json.loads((tmp_path / "a/data.json").read_text())
        assert list(labels) == list(map(stem, places)) and len(labels) == len(NAMES)


def test_the_very_same_name_twice(tmp_path: Path) -> None:
    output = synthetic.write(tmp_path / "out", 3, names=["a.jpg", "/a.jpg", "a-1.jpg"])
    assert run(output, tmp_path / "a") == 0
    assert names_in("coco", tmp_path / "a") == ["a.jpg", "a-1.jpg", "a-1-2.jpg"]


@pytest.mark.parametrize("reader", [coco_pycocotools, cvat_labelformat])
def test_boxes_stand_at_their_names(reader: Callable[[str], Any], tmp_path: Path) -> None:
    kind = reader.__name__.partition("_")[0]
    # readers leave the suffix out, and XML some letters
    names = [name for name in NAMES if name not in ("a.png", "a.JPG", "\ufffe.jpg")]
    output = synthetic.write(tmp_path / "out", len(names), 4, names=names)
    assert run(output, tmp_path / "a", format=kind) == 0
    called = names_of(tmp_path / "a")
    truth = {
        stem(called[row["image_uri"]]): [
            [d["label"], d["xmin"], d["ymin"], d["xmax"], d["ymax"], d["score"]]
            for d in row["detections"]
        ]
        for row in outputs.rows(str(output))
    }
    assert compare(truth, reader(str(tmp_path / "a")))[0] <= 0.0101


@pytest.mark.parametrize(
    ("input", "prefix", "address"),
    [
        ("s3://bucket/a b", None, "s3://bucket/a b/x/1 #.jpg"),
        ("/data/a b", None, "/data/local-files/?d=data/a%20b/x/1%20%23.jpg"),
        ("/data/a b", "https://host/", "https://host/x/1%20%23.jpg"),
    ],
)
def test_label_studio_addresses(
    input: str, prefix: str | None, address: str, tmp_path: Path
) -> None:
    output = synthetic.write(tmp_path / "out", 1, 6, input=input, names=["x/1 #.jpg"])
    export(str(output), Options(format="labelstudio", to=str(tmp_path / "a"), image_prefix=prefix))
    (task,) = json.loads((tmp_path / "a/tasks.json").read_text())
    assert task["data"]["image"] == address
    assert task["data"]["image_uri"] == f"{input}/x/1 #.jpg"
    scores = [region["score"] for region in task["predictions"][0]["result"]]
    assert task["predictions"][0]["score"] == pytest.approx(np.mean(scores or [0]), abs=1e-6)
    assert task["predictions"][0]["model_version"] == synthetic.DETECTOR["model_id"]
