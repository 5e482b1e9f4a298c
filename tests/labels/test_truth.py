"""Which image of the annotations an image of a run is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import evaluate as job
from pipeline.errors import UsageError
from pipeline.labels.truth import Truth, load_truth
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
    assert truth(tmp_path, *names).image_id(uri) == expected


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
    assert "3 images found by the last part of their name: the folders differ" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "images,categories,complaint",
    [
        ([1, 1], [1, 2], "two images of one id"),
        ([1, None], [1, 2], "whose id is None"),
        ([1, 2], [1, 1], "two categories of name 'n1' or id 1"),
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
    assert "a/1.jpg and s3://bucket/images/b/1.jpg are both" in capsys.readouterr().err


def test_boxes_of_unknown_images_are_counted(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "categories": [{"id": 3, "name": "cup"}, {"id": 1, "name": "dog"}],
        "annotations": [
            {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 1},
            {"image_id": 2, "category_id": 3, "bbox": [1, 2, 3, 4]},
            {"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4]},
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    found = load_truth(str(tmp_path / "gt.json"))
    assert found.strays == 2
    assert found.category_ids == {"dog": 1, "cup": 3}
    assert found.xywh.tolist() == [[1, 2, 3, 4]] and found.areas.tolist() == [12]
    assert found.crowds.tolist() == [True]
