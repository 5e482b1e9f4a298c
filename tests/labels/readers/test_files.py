"""CVAT, Pascal VOC, FiftyOne, Hugging Face and COCO as their tools write them."""

from __future__ import annotations

import json
import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from pipeline.errors import UsageError
from pipeline.labels.annotations import load_truth
from pipeline.labels.readers import files
from tests.support import synthetic
from tests.support.annotated import BOX, HEAD, LINE, check, write

# what CVAT 2 writes for a task, shortened
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>4</id><name>t</name><size>2</size><labels><label><name>cup</name>
    <color>#33ddff</color><type>any</type></label></labels></task></meta>
  <image id="0" name="x/1.jpg" subset="default" task_id="4" width="200" height="100">
    <box label="cup" source="manual" occluded="0" xtl="20.00" ytl="20.00" xbr="120.00"
      ybr="60.00"%s z_order="0"><attribute name="score">0.5</attribute></box>
    <polygon label="cup" source="manual" occluded="0" points="1,2;3,4;5,6" z_order="0"/>
    <tag label="cup" source="manual"/>
  </image>
  <image id="1" name="x/2.jpg" subset="default" task_id="4" width="200" height="100"></image>
</annotations>
"""
VOC = """<annotation><folder/><filename>x/1.jpg</filename><size><width>200</width>
<height>100</height><depth/></size><object><name>cup</name><occluded>0</occluded><bndbox>
<xmin>20.0</xmin><ymin>20.0</ymin><xmax>120.0</xmax><ymax>60.0</ymax></bndbox><attributes>
<attribute><name>rotation</name><value>%s</value></attribute></attributes></object></annotation>
"""
COCO = """{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [],
  "categories": [{"id": 1, "name": "cup"}]}"""


@pytest.mark.parametrize("packed", [False, True])
def test_cvat(tmp_path: Path, packed: bool) -> None:
    given = write(tmp_path, {"annotations.xml": CVAT % ""})
    if packed:
        given += "/task.zip"
        with zipfile.ZipFile(given, "w") as archive:
            archive.write(tmp_path / "annotations.xml", "annotations.xml")
            archive.writestr("images/x/1.jpg", b"no image")
    truth = load_truth(given)
    check(truth, "x/1.jpg", "x/2.jpg")
    assert truth.left_out == {"that are not rectangles": 1}


@pytest.mark.parametrize("kind", ["annotations.xml", "Annotations", "annotations", "labels"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_macos_leaves(tmp_path: Path, kind: str, packed: bool) -> None:
    """Files of its own, called as those of the user, on disks of others and in zips."""
    files = {"annotations.xml": CVAT % ""}
    if kind == "Annotations":
        files = {"Annotations/1.xml": VOC % "0.0"}
    if kind == "annotations":
        files = {"annotations/a.json": COCO.replace("a.jpg", "x/1.jpg")}
    if kind == "labels":
        files = {"data.yaml": "names: [cup]", "labels/x/1.txt": LINE, "images.csv": HEAD}
        files["images.csv"] += "x/1.jpg,0,x/1.jpg,200,100\n"
    folder = tmp_path / "a/back"
    for name in files:
        inner, _, base = name.rpartition("/")
        for root in (folder / inner, tmp_path / "a/__MACOSX/back" / inner):
            root.mkdir(parents=True, exist_ok=True)
            (root / f"._{base}").write_bytes(b"\0\5\x16\7\0")
    write(folder, files)
    given = shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path / "a") if packed else folder
    assert load_truth(str(given)).names[0] == "x/1.jpg"


def test_a_zip_leads_back_by_what_lies_beside_it(tmp_path: Path) -> None:
    write(tmp_path, {"images.csv": "name,image_id,image_uri\nx/1.jpg,0,s3://b/x/1.jpg\n"})
    with zipfile.ZipFile(tmp_path / "back.zip", "w") as archive:
        archive.writestr("annotations.xml", CVAT % "")
    check(load_truth(str(tmp_path / "back.zip")), "s3://b/x/1.jpg", "x/2.jpg")


@pytest.mark.parametrize(
    "files,complaint",
    [
        ({"a.xml": CVAT % ' rotation="12.5"'}, "image x/1.jpg has a rotated box"),
        ({"a.xml": "<annotations><track/></annotations>"}, "is CVAT for video"),
        ({"a.xml": "<annotations><image name="}, "a.xml is not XML"),
        ({"a.xml": "<rss>"}, "is XML, but neither CVAT for images nor Pascal VOC"),
        ({"a.txt": LINE, "a.jpg": ""}, "names no classes; it needs one of data.yaml, "),
        ({"a.json": '{"version": "5", "shapes": []}', "b.json": "{}"}, "a.json is LabelMe's JSON"),
        ({"Annotations/1.xml": VOC % "12.5"}, "image x/1.jpg has a rotated box"),
        ({"Annotations/1.xml": "<annotation>"}, "1.xml is not XML"),
        ({"Annotations/1.xml": '<?xml version="1.0" encoding="x"?><a/>'}, "1.xml is not XML: unk"),
        ({"Annotations/1.xml": (VOC % "0").replace("20.0", "20,0")}, "corners are .'20,0', '20,0'"),
        ({"Annotations/1.xml": (VOC % "0").replace("bndbox", "robndbox")}, "has a rotated box"),
        ({"a.xml": CVAT.replace("xtl", "x") % ""}, r"x/1.jpg has a box whose corners are \[None, "),
        ({"instances.json": "", "back.json": ""}, "instances.json, back.json: give the path"),
        ({"export.json": "", "annotations.xml": "", "a.zip": ""}, "holds an export, a.zip: give"),
        (
            {"a.json": '{"features": {"a": {}}}'},
            "was written by save_to_disk.. of datasets: write it with",
        ),
        ({"a.json": COCO.replace("annotations", "info")}, "has no `annotations`, not even"),
        (
            {"a/a.json": COCO, "b/a.json": COCO},
            "there are 2 files of annotations, and COCO files are",
        ),
        ({"data.yaml": "nc: 1", "labels/1.txt": LINE}, "data.yaml of .* has no `names`"),
        ({"data.yaml": "names: [a, cup]", "classes.txt": "cup\na"}, "data.yaml and classes.txt of"),
        ({"classes.txt": "cup", "labels/1.txt": LINE}, "the size of image 1.txt is not known"),
        ({"classes.txt": "cup", "1.txt": LINE}, "the size of image 1.txt is not known"),
        ({"classes.txt": "cup", "a.txt": "1.png"}, "has .txt files, but none belongs to an image"),
        ({"images.csv": f"{HEAD}a,0,b,9,\n", "a.xml": CVAT % ""}, "/images.csv cannot be read .V"),
        ({"images.csv": f"{HEAD}a,0\n", "a.json": COCO}, "from the export again, or save it"),
        ({"a.txt": "x"}, "holds no annotations of a known format: COCO, Label Studio"),
        (
            {"a.json": "[]", "b.json": "[]"},
            "holds a.json, b.json: give the path of the one with the corrections",
        ),
        ({"_run/run.json": "{}", "detections/a": ""}, "is an output of prelabel detect, not"),
        ({"a.json": '[{"image": "1.jpg", "annotations": []}]'}, "a.json holds no annotations of"),
        ({"a.json": '[{"image_id": 1, "bbox": []}]'}, "holds only detections"),
        ({"labels.json": '{"labels": {"1": []'}, "is not valid FiftyOne"),
    ],
)
def test_what_is_refused(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        load_truth(write(tmp_path, files))


@pytest.mark.parametrize("below", ["", "detections", "detections/status=ok"])
def test_what_was_detected_is_no_truth(tmp_path: Path, below: str) -> None:
    output = synthetic.write(tmp_path / "out", 3)
    with pytest.raises(UsageError, match="is an output of prelabel detect, not annotations"):
        load_truth(f"{output}/{below}")


def test_beside_the_tasks_that_were_exported(tmp_path: Path) -> None:
    """Label Studio's COCO is `result.json`."""
    files = {"export.json": "{}", "tasks.json": "[]", "label_config.xml": "<View/>"}
    assert load_truth(write(tmp_path, files | {"result.json": COCO})).names == ["a.jpg"]


def test_corrections_without_sizes_and_versions(tmp_path: Path) -> None:
    box = {"label_id": 1, "label": "cup", "xmin": 20, "ymin": 20, "xmax": 120, "ymax": 60}
    row = {"image_uri": "s3://b/1.jpg", "detections": [box]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    truth = load_truth(f"{tmp_path}/a.parquet")
    assert truth.xywh.tolist() == [BOX] and truth.sizes.tolist() == [[0, 0]]


def test_what_a_zip_holds_is_named_by_the_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("é/a.json", '{"shapes": []}')
    data = (tmp_path / "b.zip").read_bytes()
    for _ in range(2):  # as it is, and as Linux's `zip` writes it
        with pytest.raises(UsageError, match=f"^{tmp_path}/b.zip/é/a.json is LabelMe's"):
            load_truth(f"{tmp_path}/b.zip")
        (tmp_path / "b.zip").write_bytes(data.replace(b"\x14\0\0\x08", b"\x14\0\0\0"))


def test_an_image_is_no_annotations(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    with pytest.raises(
        UsageError, match="a.jpg holds no annotations of a known format: COCO, Label"
    ):
        load_truth(f"{tmp_path}/a.jpg")


@pytest.mark.parametrize("name", ["0.jpg.aux.xml", "3.jpg.aux.xml", "3.xml"])
def test_voc_beside_other_xml(tmp_path: Path, name: str) -> None:
    other = "<PAMDataset/>"
    check(load_truth(write(tmp_path, {"1.xml": VOC % "0.0", name: other})), "x/1.jpg")


@pytest.mark.parametrize("folder", ["Annotations", "labels", "."])
def test_voc(tmp_path: Path, folder: str) -> None:
    """In a folder of its own, or beside the images as LabelImg writes it."""
    empty = "<annotation><filename>2.jpg</filename></annotation>"
    files = {f"{folder}/1.xml": VOC % "0.0", f"{folder}/2.xml": empty, f"{folder}/1.jpg": ""}
    check(load_truth(write(tmp_path, files)), "x/1.jpg", "2.jpg")


def test_parts_of_one_export(tmp_path: Path) -> None:
    """Whose images.csv lies above them, or beside the zip of them, or in it."""
    rows = (
        "x/1.jpg,0,s3://b/x/1.jpg,200,100\n2.jpg,1,s3://b/2.jpg,9,9\n3.jpg,2,s3://b/3.jpg,9,9\n\n"
    )
    second = "<annotation><filename>2.jpg</filename><object><name/><bndbox/></object></annotation>"
    second = second.replace("<bndbox/>", "<polygon><x1>1</x1></polygon>")
    given = write(tmp_path / "a", {"train/1.xml": VOC % "0.0", "valid/2.XML": second})
    packed = shutil.make_archive(given, "zip", given)
    tabs, semicolons = ((HEAD + rows).replace(",", mark) for mark in "\t;")
    quoted = semicolons.replace("name;", '"name";')
    write(tmp_path, {"images.csv": f"\ufeff{tabs}", "a/images.csv": quoted})
    whole = shutil.make_archive(f"{tmp_path}/b/whole", "zip", given)
    for truth in map(load_truth, (given, packed, whole)):
        check(truth, "s3://b/x/1.jpg", "s3://b/2.jpg")
        assert truth.unreviewed == {"missing from the corrections": 1}
        assert truth.left_out == {"that are not rectangles": 1}


def test_parts_of_two_exports(tmp_path: Path) -> None:
    """Which gave their classes one number."""
    for name, image in (("cup", "1"), ("glass", "2")):
        record = {"run_id": "r", "classes": [{"id": 7, "name": name}]}
        texts = {"export.json": json.dumps(record), "classes.txt": name}
        texts["images.csv"] = f"{HEAD}{image}.jpg,0,s3://b/{image}.jpg,200,100\n"
        texts[f"labels/{image}.txt"] = LINE
        write(tmp_path / name, texts)
    truth = load_truth(str(tmp_path))
    assert len({*truth.category_ids.values()}) == 2
    assert truth.box_categories.tolist() == [truth.category_ids[name] for name in ("cup", "glass")]


def test_no_thread_outlives_an_error(tmp_path: Path) -> None:
    before = threading.enumerate()
    gone = (f"{tmp_path}/{number}.txt" for number in range(20))
    with pytest.raises(FileNotFoundError) as caught:
        next(files.contents(LocalFileSystem(), gone))
    assert threading.enumerate() == before, caught  # whoever tells of it still has its traceback


def test_voc_of_one_image(tmp_path: Path) -> None:
    write(tmp_path, {"1.xml": VOC % "0.0"})
    with pytest.raises(
        UsageError, match="the Pascal VOC file of one image: give the folder that holds all"
    ):
        load_truth(f"{tmp_path}/1.xml")


@pytest.mark.parametrize("packed", [False, True])
def test_fiftyone(tmp_path: Path, packed: bool) -> None:
    box = {"label": "cup", "bounding_box": [0.1, 0.2, 0.5, 0.4], "attributes": {}}
    labels = {"1": [box, box | {"label": None}], "2": [], "3": None}
    given = write(
        tmp_path / "a", {"labels.json": json.dumps({"classes": ["cup"], "labels": labels})}
    )
    (tmp_path / "a/data").mkdir()
    for number in (1, 2, 3):
        Image.new("L", (200, 100)).save(tmp_path / f"a/data/{number}.png")
    truth = load_truth(shutil.make_archive(given, "zip", given) if packed else given)
    check(truth, "1.png", "2.png")
    assert truth.unreviewed.total() == truth.left_out.total() == 1


@pytest.mark.parametrize("named,listed", [(True, False), (False, False), (False, True)])
def test_huggingface(tmp_path: Path, named: bool, listed: bool) -> None:
    objects: Any = {"bbox": [BOX], "category": [0 if named else "cup"]}
    objects = [{"bbox": BOX, "category": "cup"}] if listed else objects
    row = {"image": {"bytes": None, "path": "x/1.jpg"}, "objects": objects}
    row |= {"width": 200, "height": 100}
    empty = row | {"image": {"bytes": None, "path": "2.jpg"}, "objects": None}
    label = {"feature": {"names": ["cup"], "_type": "ClassLabel"}, "_type": "Sequence"}
    features = {"objects": {"category": label}}
    table = pa.Table.from_pylist([row, empty])
    table = table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data/train-00000-of-00001.parquet")
    for given in (tmp_path, tmp_path / "data/train-00000-of-00001.parquet"):
        check(load_truth(str(given)), "x/1.jpg", "2.jpg")


def test_huggingface_without_categories(tmp_path: Path) -> None:
    row = {"image": {"path": "1.jpg"}, "objects": {"bbox": [BOX], "label": ["cup"]}}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="`objects` without `bbox` and `category`; it has "):
        load_truth(f"{tmp_path}/a.parquet")


@pytest.mark.parametrize("rotation,refused", [(None, False), (0.0, False), (12.5, True)])
def test_coco_of_cvat(tmp_path: Path, rotation: float | None, refused: bool) -> None:
    box: dict[str, Any] = {"id": 1, "image_id": 1, "category_id": 1, "bbox": BOX}
    box |= {"attributes": {"occluded": False, "rotation": rotation}}
    content = {
        "images": [{"id": 1, "file_name": "x/1.jpg", "width": "200", "height": 100.0}],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [box],
    }
    given = write(tmp_path, {"annotations/instances_default.json": json.dumps(content)})
    if refused:
        with pytest.raises(UsageError, match="image x/1.jpg has a rotated box"):
            load_truth(given)
    else:
        check(load_truth(given), "x/1.jpg")


@pytest.mark.parametrize("name", ["1_jpg.rf.0f1e.jpg", "b-1-_jpg.rf.0f1e.jpg", "images\\1.jpg"])
def test_coco_of_an_export(tmp_path: Path, name: str) -> None:
    """Roboflow changes letters of names, but says what the image was called."""
    image = {"id": 1, "file_name": name} | ({"extra": {"name": "b (1).jpg"}} if "b" in name else {})
    content = json.loads(COCO) | {"images": [image]}
    csv = f"{HEAD}x/1.jpg,0,s3://b/x/1.jpg,9,9\nx/b (1).jpg,1,s3://b/x/b (1).jpg,9,9\n"
    csv += "x/b-1-.jpg,2,s3://b/x/b-1-.jpg,9,9\n"
    truth = load_truth(write(tmp_path, {"a.json": json.dumps(content), "images.csv": csv}))
    assert truth.names == [f"s3://b/x/{'b (1)' if name[0] == 'b' else '1'}.jpg"]


@pytest.mark.parametrize("beside", ["aoi.geojson", "map/aoi.geojson", "1.tif.aux.xml"])
def test_coco_beside_what_a_map_needs(tmp_path: Path, beside: str) -> None:
    content = {
        "images": [{"id": 1, "file_name": "x/1.jpg", "width": 200, "height": 100}],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": BOX}],
    }
    files = {"gt.json": json.dumps(content), beside: '{"type": "A", "features": []}'}
    check(load_truth(write(tmp_path, files)), "x/1.jpg")
