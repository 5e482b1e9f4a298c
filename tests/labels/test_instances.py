"""Annotation files of any encoding, and single annotations that are not as they should be."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.labels import instances
from pipeline.labels.annotations import load_truth

BOX = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "area": 5}
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "UTF-8 with a mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "UTF-16, big end first": lambda data: b"\xfe\xff" + data.decode().encode("utf-16-be"),
    "gzip": gzip.compress,
    "gzip with a mark": lambda data: gzip.compress(b"\xef\xbb\xbf" + data),
}


def write(path: Path, *annotations: Any, images: int = 1, form: str = "plain") -> str:
    content = {
        "images": [{"id": n, "file_name": f"é {n}.jpg"} for n in range(1, images + 1)],
        "categories": [{"id": 3, "name": "cup"}],
        "annotations": annotations,
    }
    path.write_bytes(FORMS[form](json.dumps(content, ensure_ascii=False).encode()))
    return str(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["gt.json", "gt.json.gz"])
@pytest.mark.parametrize("area", [5, float("nan")])
def test_encodings(tmp_path: Path, form: str, name: str, area: float) -> None:
    boxes = [BOX | {"image_id": n, "area": area} for n in range(1, 2001)]
    path = write(tmp_path / name, *boxes, images=2000, form=form)
    if area == area:
        assert list(instances.keys(path)) == ["images", "categories", "annotations"]
    found = load_truth(path)
    assert found.names[-1] == "é 2000.jpg" and len(found.names) == 2000
    assert found.xywh.tolist() == [[1, 2, 3, 4]] * 2000
    assert found.areas.tolist() == [12 if area != area else 5] * 2000


def test_from_a_store(bucket: str, s3: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "gt.json.gz", BOX, form="gzip with a mark")
    s3.upload_file(path, bucket, "gt.json.gz")
    assert load_truth(f"s3://{bucket}/gt.json.gz").xywh.tolist() == [[1, 2, 3, 4]]


def test_a_zipped_file_that_is_cut_short(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "gt.json.gz", *[BOX] * 500, form="gzip"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UsageError, match="gt.json.gz"):
        load_truth(str(path))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10**6])
def test_numbers_that_are_none(size: int) -> None:
    class Stream:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def read(self, _: int) -> bytes:
            first, self.data = self.data[:size], self.data[size:]
            return first

    text = r'{"a": [NaN, -Infinity, Infinity, 1], "b\"": "NaN, \\", "NaN": [-1.5, true]}'
    stream = instances._WithoutNaN(Stream(text.encode()))  # type: ignore[arg-type]
    assert stream.read(0) == b""
    found = b"".join(iter(lambda: stream.read(size), b""))
    assert json.loads(found) == {"a": [None, None, None, 1], 'b"': "NaN, \\", "NaN": [-1.5, True]}


POLYGON = [[1, 2, 4, 2, 4, 6, 1, 6]]


@pytest.mark.parametrize(
    "change,xywh,area",
    [
        ({"bbox": None, "segmentation": POLYGON}, [1, 2, 3, 4], 5),
        ({"bbox": [], "segmentation": POLYGON, "area": None}, [1, 2, 3, 4], 12),
        ({"bbox": [1, 2, 3], "segmentation": POLYGON[0]}, [1, 2, 3, 4], 5),
        ({"bbox": [1, 2, None, 4], "segmentation": POLYGON}, [1, 2, 3, 4], 5),
        ({"bbox": [1, 2, float("nan"), 4], "segmentation": POLYGON}, [1, 2, 3, 4], 5),
        ({"bbox": None, "segmentation": [*POLYGON, [0, 0, 1, 0, 1, 1]]}, [0, 0, 4, 6], 5),
        ({"area": None}, [1, 2, 3, 4], 12),
        ({"area": float("nan")}, [1, 2, 3, 4], 12),
        ({"area": float("inf")}, [1, 2, 3, 4], 12),
        ({"area": "x"}, [1, 2, 3, 4], 12),
        ({"area": -1}, [1, 2, 3, 4], 12),
        ({"area": 0}, [1, 2, 3, 4], 0),
        ({"bbox": ["1", "2", "3", "4"]}, [1, 2, 3, 4], 5),
        ({"bbox": [1, 2, 0, 4]}, [1, 2, 0, 4], 5),
        ({"iscrowd": "0"}, [1, 2, 3, 4], 5),
        ({"iscrowd": None}, [1, 2, 3, 4], 5),
    ],
)
def test_odd_annotations_that_can_be_used(
    tmp_path: Path, change: dict[str, Any], xywh: list[float], area: float
) -> None:
    found = load_truth(write(tmp_path / "gt.json", BOX, BOX | change))
    assert found.xywh.tolist() == [[1, 2, 3, 4], xywh] and found.areas.tolist() == [5, area]
    assert found.crowds.tolist() == [False, False] and found.left_out == {}


@pytest.mark.parametrize(
    "odd,reason",
    [
        ([], "that are not JSON objects"),
        (None, "that are not JSON objects"),
        ({}, "of an image that the file does not list"),
        (BOX | {"image_id": None}, "of an image that the file does not list"),
        (BOX | {"image_id": [1]}, "of an image that the file does not list"),
        (BOX | {"image_id": True}, "of an image that the file does not list"),
        (BOX | {"image_id": 2}, "of an image that the file does not list"),
        (BOX | {"category_id": 4}, "of a category that the file does not list"),
        (BOX | {"category_id": {}}, "of a category that the file does not list"),
        (BOX | {"bbox": None}, "without a box or a polygon"),
        (BOX | {"bbox": "1234"}, "without a box or a polygon"),
        (BOX | {"bbox": {"x": 1}}, "without a box or a polygon"),
        (BOX | {"bbox": [1, 2, "x", 4]}, "without a box or a polygon"),
        (BOX | {"bbox": [], "segmentation": []}, "without a box or a polygon"),
        (BOX | {"bbox": [], "segmentation": [[1, 2, 3, 4]]}, "without a box or a polygon"),
        (BOX | {"bbox": [], "segmentation": [[1, 2, 3, 4, 5, None]]}, "without a box or a polygon"),
        (BOX | {"bbox": [], "segmentation": {"counts": "x"}}, "without a box or a polygon"),
        (BOX | {"bbox": [1, 2, -3, 4]}, "whose box has a negative width or height"),
    ],
)
def test_odd_annotations_are_counted_and_left_out(tmp_path: Path, odd: Any, reason: str) -> None:
    found = load_truth(write(tmp_path / "gt.json", BOX, odd))
    assert found.left_out == {reason: 1}
    assert found.xywh.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    "text,complaint",
    [
        ("", "holds no annotations of a known format: COCO"),
        ("{", "is not valid instances JSON"),
        ("NaN", "holds no annotations of a known format: COCO"),
        ("[]", "lists no images or no categories, so it is not instances JSON"),
        ('{"images": [[]]}', r"has an image without an id: \[\]"),
        ('{"images": [{"id": 1}], "categories": [[]]}', "has a category without an id or a name"),
        ('{"images": [{"id": 1}], "categories": [{"id": "x", "name": "a"}]}', "'x', not a number"),
        (
            '{"images": [{"id": 1}], "categories": [{"id": -1, "name": "a"}]}',
            "is -1: number categories",
        ),
    ],
)
def test_what_is_no_file_of_annotations(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "gt.json").write_text(text)
    with pytest.raises(UsageError, match=complaint):
        load_truth(str(tmp_path / "gt.json"))
