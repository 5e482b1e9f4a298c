"""What Label Studio gives back: its marks, its names, its shapes, in both of its JSON forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.labels.annotations import load_truth
from pipeline.labels.truth import Truth

VALUE = {"x": 10, "y": 20, "width": 50, "height": 40, "rotation": 0}
LABELLED = VALUE | {"rectanglelabels": ["cup"]}
SIZE = {"original_width": 200, "original_height": 100}
REGION = {"type": "rectanglelabels", "value": LABELLED, **SIZE}
BOX = [20, 20, 100, 40]


def load(tmp_path: Path, *tasks: dict[str, Any]) -> Truth:
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    return load_truth(str(tmp_path / "back.json"))


def task(*annotations: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {"data": {"image": "s3://b/1.jpg"} | data, "annotations": list(annotations)}


def test_which_tasks_were_reviewed(tmp_path: Path) -> None:
    predicted = {"predictions": [{"result": [REGION]}]}
    found = load(
        tmp_path,
        task({"result": [REGION]}),
        task({"result": []}, image="s3://b/empty.jpg") | predicted,
        task(image="s3://b/untouched.jpg") | predicted,
        task({"result": [REGION], "was_cancelled": True}, image="s3://b/skipped.jpg"),
    )
    assert found.names == ["s3://b/1.jpg", "s3://b/empty.jpg"]
    assert found.xywh.tolist() == [BOX] and found.image_places.tolist() == [0]
    assert found.unreviewed == {"without an annotation": 1, "skipped": 1}


@pytest.mark.parametrize("truth,expected", [(None, "new"), ("old", "old")])
def test_which_of_several_annotations(
    tmp_path: Path, truth: str | None, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    marks = [
        {
            "result": [REGION | {"value": VALUE | {"rectanglelabels": [name]}}],
            "updated_at": f"2026-11-{day}T10:00:00Z",
            "ground_truth": name == truth,
        }
        for name, day in (("old", 10), ("new", 12), ("middle", 11))
    ]
    assert [*load(tmp_path, task(*marks)).category_ids] == [expected]
    assert "1 tasks have several annotations" in caplog.text


@pytest.mark.parametrize(
    "image,name",
    [
        ("/data/upload/1/1a2b3c4d-a b.jpg", "a b.jpg"),
        ("/data/upload/12/1a2b3c4d-0badcafe-a.jpg", "0badcafe-a.jpg"),
        ("/data/local-files/?d=photos/a%20b.jpg", "/photos/a b.jpg"),
        ("http://host:8080/data/upload/1/1a2b3c4d-a.jpg", "a.jpg"),
        ("s3://b/1a2b3c4d-a.jpg", "s3://b/1a2b3c4d-a.jpg"),
    ],
)
def test_names(tmp_path: Path, image: str, name: str) -> None:
    assert load(tmp_path, task({"result": []}, image=image)).names == [name]
    (tmp_path / "images.csv").write_text("name,image_id,image_uri\nx/a.jpg,0,s3://b/x/a.jpg\n")
    if image.endswith("upload/1/1a2b3c4d-a.jpg"):
        assert load(tmp_path, task({"result": []}, image=image)).names == ["s3://b/x/a.jpg"]


@pytest.mark.parametrize("uri", ["s3://other/a.jpg", "/other/a.jpg"])
def test_an_image_of_the_same_name_elsewhere(tmp_path: Path, uri: str) -> None:
    (tmp_path / "images.csv").write_text("name,image_id,image_uri\nx/a.jpg,0,s3://b/x/a.jpg\n")
    found = load(tmp_path, task({"result": []}, image_uri=uri))
    assert found.names == [uri]
    assert found.unreviewed == {"missing from the corrections": 1}


def test_json_min(tmp_path: Path) -> None:
    row = {"image": "/data/upload/1/1a2b3c4d-1.jpg", "id": 1, "annotation_id": 3}
    box = LABELLED | SIZE
    found = load(
        tmp_path,
        row | {"label": [box, box | {"x": 0}], "updated_at": "2026-11-10"},
        row | {"label": [box], "updated_at": "2026-11-12", "width": 9},
        {"image": "s3://b/2.jpg", "id": 2, "annotation_id": 4, "choice": "good"},
    )
    assert found.names == ["1.jpg", "s3://b/2.jpg"] and found.xywh.tolist() == [BOX]


@pytest.mark.parametrize(
    "change,reason",
    [
        ({"type": "polygonlabels"}, "that are not rectangles"),
        ({"id": "b", "type": "rectangle", "value": VALUE}, "without a label, or with several"),
        ({"type": "labels", "value": {"points": [], "labels": ["cup"]}}, "that are not rectangles"),
        ({"value": VALUE | {"rectanglelabels": []}}, "without a label, or with several"),
        ({"value": LABELLED | {"rectanglelabels": ["a", "b"]}}, "without a label, or with several"),
        ({"value": LABELLED | {"width": -1}}, "whose box has a negative width or height"),
    ],
)
def test_regions_of_no_use_are_counted(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    odd = REGION | change
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    drawn = {"id": "a", "type": "rectangle", "value": VALUE, **SIZE}  # stands beside its labels
    labels = REGION | {"id": "a", "type": "labels", "value": VALUE | {"labels": ["cup"]}}
    found = load(tmp_path, task({"result": [REGION, odd, choice, drawn, labels]}))
    assert found.left_out == {reason: 1} and found.xywh.tolist() == [BOX, BOX]


@pytest.mark.parametrize("change", [{"value": LABELLED | {"rotation": 3}}, {"image_rotation": 90}])
def test_a_rotated_box_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    load(tmp_path, task({"result": [REGION | {"value": LABELLED | {"rotation": 360}}]}))
    with pytest.raises(UsageError, match="image s3://b/1.jpg has a rotated box"):
        load(tmp_path, task({"result": [REGION | change]}))


def test_sizes_that_the_region_lacks(tmp_path: Path) -> None:
    region = {"type": "rectanglelabels", "value": LABELLED}
    with pytest.raises(UsageError, match="the size of image s3://b/1.jpg is not known"):
        load(tmp_path, task({"result": [region]}))
    assert load(tmp_path, task({"result": [region]}, width=200, height=100)).xywh.tolist() == [BOX]


@pytest.mark.parametrize(
    "drawn_on,box",
    [((100, 50), BOX), ((400, 201), BOX), ((100, 200), [10, 40, 50, 80]), ((None, None), BOX)],
)
def test_a_picture_of_another_size(tmp_path: Path, drawn_on: Any, box: list[int]) -> None:
    """Of the same shape it is the image made smaller or larger; else the boxes are in its pixels,
    and its size says so.
    """
    (tmp_path / "images.csv").write_text(
        "name,image_id,image_uri,width,height\na.jpg,0,s3://b/1.jpg,200,100\n"
    )
    region = REGION | dict(zip(SIZE, drawn_on, strict=True))
    found = load(tmp_path, task({"result": [region]}))
    assert found.xywh.tolist() == [pytest.approx(box)]
    assert found.sizes.tolist() == [[200, 100] if box == BOX else list(drawn_on)]


def test_an_image_twice(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="list the image s3://b/1.jpg twice"):
        load(tmp_path, task({"result": []}), task({"result": []}))
