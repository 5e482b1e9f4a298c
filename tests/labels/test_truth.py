"""Which image of the annotations an image of a run is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs import evaluate as job
from pipeline.errors import UsageError
from pipeline.labels.annotations import load_truth
from pipeline.labels.truth import Truth
from tests.support import synthetic


def truth(tmp_path: Path, *names: str) -> Truth:
    content = {
        "images": [{"id": f"id-{n}", "file_name": name} for n, name in enumerate(names)],
        "categories": [{"id": 3, "name": "cup"}],
        "annotations": [],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    return load_truth(str(tmp_path / "gt.json"))


@pytest.mark.parametrize(
    "names,uri,expected",
    [
        (["1.jpg", "2.jpg"], "s3://bucket/any/where/2.jpg", "id-1"),
        (["1.jpg"], "/photographs/1.jpg", "id-0"),
        (["a/1.jpg", "b/1.jpg"], "s3://bucket/x/b/1.jpg", "id-1"),
        (["1.jpg", "b/1.jpg"], "s3://bucket/x/b/1.jpg", "id-1"),
        (["a/1.jpg", "b/1.jpg"], "s3://bucket/x/c/1.jpg", None),
        (["val2017/1.jpg"], "s3://bucket/1.jpg", "id-0"),
        (["1.jpg"], "s3://bucket/11.jpg", None),
        (["ü 1.jpg"], "https://host/%C3%BC%201.jpg?X-Amz-Signature=0", "id-0"),
        (["%20.jpg"], "s3://bucket/%20.jpg", "id-0"),
        ([""], "s3://bucket/", None),
    ],
)
def test_by_name(tmp_path: Path, names: list[str], uri: str, expected: str | None) -> None:
    known = truth(tmp_path, *names)
    found = known.place(uri)
    assert (known.ids[found[0]] if found else None) == expected


def test_by_url_where_there_is_no_file_name(tmp_path: Path) -> None:
    url = "http://images.cocodataset.org/val2017/7.jpg"
    content = {
        "images": [{"id": 7, "coco_url": url}, {"id": 8, "coco_url": url, "file_name": "8.jpg"}],
        "categories": [{"id": 3, "name": "cup"}],
        "annotations": [],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    known = load_truth(str(tmp_path / "gt.json"))
    assert known.place(url) == (0, True) and known.place("/data/7.jpg") == (0, False)
    assert known.place("/data/8.jpg") == (1, True)


def test_folders_that_differ_count_only_where_none_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{folder}/{n}.jpg" for folder in ("cam1", "cam2") for n in range(3)]
    both = synthetic.write(tmp_path / "both", 6, names=names)
    one = synthetic.write(tmp_path / "one", 3, names=names[:3])
    truth(tmp_path, *names[3:])
    assert job.main([str(both), "--annotations", str(tmp_path / "gt.json")]) == 0
    printed = capsys.readouterr().out
    assert "3 annotated images evaluated" in printed and "3 images of the run have no" in printed
    assert "folders differ" not in printed
    assert job.main([str(one), "--annotations", str(tmp_path / "gt.json")]) == 0
    assert "3 images matched by the last part of their names only: the folders differ" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "images,categories,complaint",
    [
        ([1, 1], [1, 2], "two images with the same id"),
        ([1, None], [1, 2], "whose id is None"),
        ([1, 2], [1, 1], "two categories with the name 'n1' or the id 1"),
    ],
)
def test_ids_that_are_not_ids(
    tmp_path: Path, images: list[int | None], categories: list[int], complaint: str
) -> None:
    content = {
        "images": [{"id": k, "file_name": f"{n}.jpg"} for n, k in enumerate(images)],
        "categories": [{"id": k, "name": f"n{n}"} for n, k in enumerate(categories)],
        "annotations": [],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=complaint):
        load_truth(str(tmp_path / "gt.json"))


def test_two_images_of_the_run_are_one_of_the_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = synthetic.write(tmp_path / "out", 4, names=["a/1.jpg", "a/2.jpg", "b/1.jpg", "c.jpg"])
    truth(tmp_path, "1.jpg", "2.jpg")
    assert job.main([str(output), "--annotations", str(tmp_path / "gt.json")]) == 2
    assert "a/1.jpg and s3://bucket/images/b/1.jpg both match" in capsys.readouterr().err


@pytest.mark.parametrize("names,code", [(("a 1.jpg", "a%201.jpg"), 0), (("a 1.jpg",), 2)])
def test_two_images_of_the_run_in_two_spellings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, ...], code: int
) -> None:
    output = synthetic.write(tmp_path / "out", 2, names=["a 1.jpg", "a%201.jpg"])
    truth(tmp_path, *names)
    assert job.main([str(output), "--annotations", str(tmp_path / "gt.json")]) == code
    captured = capsys.readouterr()
    if code:
        assert "a 1.jpg and s3://bucket/images/a%201.jpg both match" in captured.err
    else:
        assert "2 annotated images evaluated" in captured.out and "no row" not in captured.out


def test_boxes_of_unknown_images_are_counted(tmp_path: Path) -> None:
    content: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "categories": [{"id": 3, "name": "cup"}, {"id": 1, "name": "dog"}],
        "annotations": [
            {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 1},
            {"image_id": 2, "category_id": 3, "bbox": [1, 2, 3, 4]},
            {"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4]},
            {"image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 3},
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    found = load_truth(str(tmp_path / "gt.json"))
    kinds = ("of an image that", "of a category that")
    assert found.left_out == {f"{kind} the file does not list": 1 for kind in kinds}
    assert found.category_ids == {"dog": 1, "cup": 3}
    assert found.xywh.tolist() == [[1, 2, 3, 4], [0, 0, 2, 2]] and found.areas.tolist() == [12, 3]
    assert found.crowds.tolist() == [True, False]
    del content["annotations"][-1]
    (tmp_path / "gt.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="2 of the 3 annotations of .* cannot be used: 1 of an im"):
        load_truth(str(tmp_path / "gt.json"))


@pytest.mark.parametrize("image_ids", [(1, "1"), ("1", 1), (1.0, 1), (1, 1.0), ("1", 1.0)])
@pytest.mark.parametrize("category_ids", [(3, "3"), ("3", 3), (3, 3.0)])
def test_ids_compare_as_text(
    tmp_path: Path, image_ids: tuple[Any, Any], category_ids: tuple[Any, Any]
) -> None:
    box = {"image_id": image_ids[1], "category_id": category_ids[1], "bbox": [1, 2, 3, 4]}
    content = {
        "images": [{"id": image_ids[0], "file_name": "1.jpg"}],
        "categories": [{"id": category_ids[0], "name": "cup"}],
        "annotations": [box],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    found = load_truth(str(tmp_path / "gt.json"))
    assert found.image_places.tolist() == [0] and found.box_categories.tolist() == [3]
    assert found.left_out == {} and str(found.ids[0]) == "1"


ROOT = {"id": 0, "name": "cup", "supercategory": "none"}
CUP = {"id": 1, "name": "cup", "supercategory": "cup"}


@pytest.mark.parametrize(
    "categories,used,expected",
    [
        ([ROOT, CUP], 1, {"cup": 1}),
        ([CUP, ROOT], 1, {"cup": 1}),
        ([ROOT, CUP | {"name": "mug"}], 1, {"cup": 0, "mug": 1}),
        ([ROOT, CUP], 0, None),
        ([CUP, CUP | {"id": 2}], 1, None),
    ],
)
def test_a_name_twice_of_which_one_is_an_unused_root(
    tmp_path: Path,
    categories: list[dict[str, Any]],
    used: int,
    expected: dict[str, int] | None,
) -> None:
    content = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "categories": categories,
        "annotations": [{"image_id": 1, "category_id": used, "bbox": [1, 2, 3, 4]}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    if expected is None:
        with pytest.raises(UsageError, match="two categories with the name 'cup' or the id"):
            load_truth(str(tmp_path / "gt.json"))
    else:
        assert load_truth(str(tmp_path / "gt.json")).category_ids == expected


@pytest.mark.parametrize(
    "categories,classes,expected",
    [
        (["cup", "dog"], ["dog", "cup", "zebra"], [2, 1, -1]),
        (["Cup "], ["cup"], [1]),
        (["Cup"], ["cup", "Cup"], [-1, 1]),  # the exact one has it
        (["Cup", "CUP"], ["Cup", "cup"], [1, 2]),
        (["caf\u0065\u0301"], ["Caf\u00e9"], [1]),
    ],
)
def test_classes_by_name(categories: list[str], classes: list[str], expected: list[int]) -> None:
    known = Truth("gt.json", category_ids={name: k for k, name in enumerate(categories, 1)})
    assert known.ids_of(classes) == expected


def test_a_class_that_could_be_two_categories() -> None:
    known = Truth("gt.json", category_ids={"Cup": 1, "CUP": 2})
    with pytest.raises(UsageError, match="'Cup' and 'CUP', and class 'cup' could be either"):
        known.ids_of(["cup"])
