"""What of annotations is trained on, and what is said of the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.labels.annotations import load_truth
from pipeline.labels.truth import Truth
from pipeline.training import examples, pixels
from pipeline.training.pixels import Image
from tests.support import drawn
from tests.support.drawn import SIDE


def found(folder: Path, content: dict[str, Any], images: str = "images") -> examples.Found:
    truth = load_truth(str(drawn.write(folder / "changed.json", content)))
    config = Config(input=f"{folder}/{images}", output="out")
    return examples.find(truth, config, True, examples.shrinking({"min_size": 64}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    drawn.draw(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def content(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    return content


def boxed(content: dict[str, Any], *bbox: float, **more: Any) -> None:
    """Put the first annotation there."""
    content["annotations"][0] |= {"bbox": list(bbox), **more}


def test_boxes_are_corners_in_pixels(folder: Path, content: dict[str, Any]) -> None:
    boxed(content, 10, 20, 30, 8)
    first = found(folder, content).examples[0]
    assert first.xyxy.dtype == np.float32 and first.xyxy[0].tolist() == [10, 20, 40, 28]
    assert first.categories.tolist() == [1, 2] and first.image.uri.endswith("images/0.png")


def test_boxes_over_the_edge_end_there(folder: Path, content: dict[str, Any]) -> None:
    boxed(content, -5, 50, 20, 40)
    given = found(folder, content)
    assert given.examples[0].xyxy[0].tolist() == [0, 50, 15, SIDE]
    assert given.notes == ["1 box cut off at the edge of their image"]


@pytest.mark.parametrize(
    "bbox,more,reason",
    [
        ((SIDE + 1, 0, 9, 9), {}, "1 outside their image"),
        ((3, 3, 0.5, 9), {}, "1 smaller than a pixel"),
        ((3, 3, 9, 9), {"iscrowd": 1}, "1 of crowds"),
    ],
)
def test_boxes_that_are_left_out(
    folder: Path, content: dict[str, Any], bbox: Any, more: Any, reason: str
) -> None:
    boxed(content, *bbox, **more)
    given = found(folder, content)
    assert given.notes == [f"1 box left out: {reason}"]
    assert given.examples[0].categories.tolist() == [2]


def test_an_image_without_boxes_shows_nothing(folder: Path, content: dict[str, Any]) -> None:
    """But one whose boxes cannot be used is not taken for that."""
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 0]
    for annotation in content["annotations"]:
        annotation["iscrowd"] = int(annotation["image_id"] == 1)
    given = found(folder, content)
    sizes = {Path(x.image.uri).name: len(x.categories) for x in given.examples}
    assert sizes == {"0.png": 0, "2.png": 2, "3.png": 2}
    assert "1 image without a box that can be used, not trained on" in given.notes


def test_images_that_cannot_be_read_are_named(folder: Path, content: dict[str, Any]) -> None:
    (folder / "images/1.png").write_bytes(b"no image")
    (folder / "images/2.png").unlink()
    given = found(folder, content)
    assert [Path(image.uri).name for image in given.images] == ["0.png", "3.png"] and len(
        given.truth.ids
    ) == 2
    (note,) = given.notes
    assert note.startswith("2 images cannot be read, left out: ")
    assert "2.png: not found" in note and "1.png: not_an_image" in note


def test_none_can_be_read(folder: Path, content: dict[str, Any]) -> None:
    for image in (folder / "images").iterdir():
        image.write_bytes(b"")
    with pytest.raises(UsageError, match="no image of .* can be read, such as .*empty"):
        found(folder, content)


def test_boxes_of_other_images(folder: Path, content: dict[str, Any]) -> None:
    for annotation in content["annotations"]:
        annotation["bbox"][0] += 400
    with pytest.raises(
        UsageError, match="8 boxes of .* lie outside their images, and only 0 inside"
    ):
        found(folder, content)


def test_images_of_another_size(folder: Path, content: dict[str, Any]) -> None:
    content["images"][1] |= {"width": 2 * SIDE, "height": SIDE}
    with pytest.raises(UsageError, match=f"1.png: {2 * SIDE}x{SIDE} there, {SIDE}x{SIDE} here; "):
        found(folder, content)


def test_images_of_other_names(folder: Path, content: dict[str, Any]) -> None:
    for image in content["images"]:
        image["file_name"] = f"other{image['id']}.png"
    with pytest.raises(
        UsageError, match="the annotations have 'other0.png', the input has '.*0.png'"
    ):
        found(folder, content)


def test_no_more_of_an_image_is_read_than_allowed(folder: Path) -> None:
    size = (folder / "images/0.png").stat().st_size
    found = [
        pixels.read(
            Config(input=str(folder), output="out", max_object_bytes=limit),
            Image(f"{folder}/images/0.png"),
        )
        for limit in (size, size - 1)
    ]
    assert (
        isinstance(found[0], np.ndarray)
        and found[1] == f"over max_object_bytes, which is {size - 1}"
    )


def test_an_empty_object_of_a_bucket(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="0.png", Body=b"")
    config = Config(input=f"s3://{bucket}", output="out")
    assert str(pixels.read(config, Image(f"s3://{bucket}/0.png"))).startswith("empty: ")


def test_some_images_of_annotations(folder: Path) -> None:
    truth = load_truth(f"{folder}/truth.json")
    part = truth.of(np.array([1, 3]))
    assert part.names == ["1.png", "3.png"] and part.image_places.tolist() == [0, 0, 1, 1]
    assert np.array_equal(part.xywh, truth.xywh[[2, 3, 6, 7]])
    assert part.place("x/3.png") == (1, True) and part.category_ids == truth.category_ids


def test_the_split_stays_when_images_come_and_go() -> None:
    def held(names: list[str]) -> set[str]:
        truth = Truth("t", ids=[*range(len(names))], names=names)
        mine, other = examples.split(truth, 0.3)
        assert sorted(mine.names + other.names) == sorted(names)
        return {name.rpartition("/")[2] for name in other.names}

    names = [f"{n}.jpg" for n in range(400)]
    first, later = held(names), held([f"s3://bucket/new/{name}" for name in names[::2]])
    assert 80 < len(first) < 160 and later == first & set(names[::2])


def test_a_video_is_on_one_side() -> None:
    """Whether its frames are named by their times, or are files as exports and CVAT write them."""
    ends = [e for t in range(9) for e in (f"#t={t / 8:.3f}", f"/{t:06}.125.png", f"\\frame_{t:06}")]
    names = [f"s3://b/{video}.MP4{end}" for video in range(20) for end in ends]
    truth = Truth("t", ids=[*range(len(names))], names=names)
    sides = [{name.partition(".")[0] for name in x.names} for x in examples.split(truth, 0.3)]
    assert all(sides) and not sides[0] & sides[1]
    found = [examples.has_frames(Truth("t", names=[name])) for name in (*names[:3], "mp4/1.png")]
    assert found == [True, True, True, False]
