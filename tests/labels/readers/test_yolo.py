"""YOLO as Ultralytics, Roboflow, CVAT, LabelImg and Label Studio lay it out."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from pipeline.labels.annotations import load_truth
from tests.support.annotated import BOX, HEAD, LINE, check, write


@pytest.mark.parametrize(
    "files",
    [
        {"classes.txt": "cup\n", "notes.json": "{}", "labels/1.txt": LINE, "labels/2.txt": ""},
        {"obj.names": "cup\n", "obj_train_data/1.txt": LINE, "obj_train_data/2.txt": "\n"},
        {"data.yaml": "names: [cup]", "labels/1.txt": LINE[:-1] + " 0.9", "labels/2.txt": ""},
        {"data.yaml": "names: {0: cup}", "labels/1.txt": LINE + LINE[:-5], "labels/2.txt": ""},
        {"classes.txt": "cup\n", "images/1.txt": LINE, "images/2.txt": "", "train.txt": "1.png"},
        {
            "classes.txt": "cup\n\n",
            "data.yaml": "names: [cup]",
            "labels/1.txt": LINE,
            "labels/2.txt": "",
        },
    ],
)
def test_yolo_beside_its_images(tmp_path: Path, files: dict[str, str]) -> None:
    folder = write(tmp_path, files)
    images = tmp_path / ("obj_train_data" if "obj.names" in files else "images")
    images.mkdir(exist_ok=True)
    for number in (1, 2):
        Image.new("L", (200, 100)).save(images / f"{number}.png")
    truth = load_truth(folder)
    below = "images/" if "images/1.txt" in files else ""
    check(truth, f"{below}1.png", f"{below}2.png")
    assert truth.left_out.total() == (LINE + LINE[:-5] in files.values())


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_yolo_in_folders(tmp_path: Path, listed: bool, packed: bool) -> None:
    """Where names repeat; where images.csv has the sizes, without the images."""
    files = {"classes.txt": "cup\n", "a/1.txt": LINE, "b/1.txt": "", "README.txt": "1 cup"}
    if listed:
        files["images.csv"] = (
            HEAD + "a/1.png,0,s3://b/a/1.png,200,100\nb/1.png,1,s3://b/b/1.png,9,9\n"
        )
    given = write(tmp_path / "y", files)
    for folder in "" if listed else "ab":
        Image.new("L", (200, 100)).save(f"{given}/{folder}/1.png")
    given = shutil.make_archive(given, "zip", given) if packed else given
    start = "s3://b/" if listed else ""
    check(load_truth(given), f"{start}a/1.png", f"{start}b/1.png")


@pytest.mark.parametrize(
    "names,first,second",
    [
        ("data.yaml", "train/{}/1", "valid/{}/2"),  # Roboflow
        ("data.yaml", "{}/train/1", "{}/val/2"),  # Ultralytics
        ("obj.names", "obj_train_data/1", "obj_valid_data/2"),  # CVAT's YOLO 1.1
    ],
)
def test_yolo_in_subsets(tmp_path: Path, names: str, first: str, second: str) -> None:
    text = "names: [cup]" if names == "data.yaml" else "cup"
    labels = {f"{first}.txt".format("labels"): LINE, f"{second}.txt".format("labels"): ""}
    given = write(tmp_path, {names: text, "train.txt": "1.png", **labels})
    for image in (first, second):
        path = tmp_path / f"{image}.png".format("images")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (200, 100)).save(path)
    known = load_truth(given).names
    assert [name.rpartition("/")[2] for name in known] == ["1.png", "2.png"]
    write(tmp_path, {"images.csv": f"{HEAD}1.png,0,s3://b/1.png,200,100\n2.png,1,s3://b/2.png,9,9"})
    check(load_truth(given), "s3://b/1.png", "s3://b/2.png")


def test_yolo_zipped_by_old_windows(tmp_path: Path) -> None:
    Image.new("L", (200, 100)).save(tmp_path / "1.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("y\\data.yaml", "names: [cup]")
        archive.writestr("y\\labels\\1.txt", LINE)
        archive.write(tmp_path / "1.png", "y\\images\\1.png")
    check(load_truth(f"{tmp_path}/a.zip"), "1.png")


def test_yolo_beside_images_in_a_folder_called_labels(tmp_path: Path) -> None:
    files = {"classes.txt": "cup", "a/labels/1.txt": LINE, "b/labels/1.txt": ""}
    rows = (f"{name}/labels/1.png,{n},s3://b/{name},200,100\n" for n, name in enumerate("ab"))
    check(
        load_truth(write(tmp_path, files | {"images.csv": HEAD + "".join(rows)})),
        "s3://b/a",
        "s3://b/b",
    )


@pytest.mark.parametrize("size,expected", [((100, 50), BOX), ((100, 100), [10, 20, 50, 40])])
def test_yolo_of_copies(tmp_path: Path, size: tuple[int, int], expected: list[int]) -> None:
    """Roboflow renames images; of another shape, no fraction says where it is in the run's."""
    stem = "a_jpg.rf.0f1e2d3c4b5a69788796a5b4c3d2e1f0"
    files = {"data.yaml": "names: [cup]", f"train/labels/{stem}.txt": LINE}
    files["images.csv"] = f"{HEAD}x/a.jpg,0,s3://b/x/a.jpg,200,100\n"
    given = write(tmp_path, files)
    (tmp_path / "train/images").mkdir()
    Image.new("L", size).save(tmp_path / f"train/images/{stem}.jpg")
    truth = load_truth(given)
    assert truth.names == ["s3://b/x/a.jpg"] and truth.xywh.tolist() == [pytest.approx(expected)]
    assert truth.sizes.tolist() == [[200, 100] if expected == BOX else [*size]]


def test_yolo_of_an_export(tmp_path: Path) -> None:
    """Names by their stems, with the start of an upload; what has no file was not reviewed."""
    uris = [f"s3://b/{name}" for name in ("a/1.jpg", "b/1.jpg", "2.jpg", "3.jpg")]
    rows = [f"{uri[7:]},{k},{uri},200,100" for k, uri in enumerate(uris)]
    files = {
        "data.yaml": "names: [cup]",
        "images.csv": HEAD + "\n".join(rows),
        "labels/train/b/1.txt": LINE,
        "labels/train/1a2b3c4d-2.txt": "",
        "labels/train/unknown.txt": "",
    }
    truth = load_truth(write(tmp_path, files))
    assert sorted(truth.names) == [uris[2], uris[1], "train/unknown.txt"]
    assert truth.xywh.tolist() == [pytest.approx(BOX)]
    assert truth.names[truth.image_places[0]] == uris[1]
    assert truth.unreviewed == {"missing from the corrections": 2}
