"""Where the images of annotations are found, also in containers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs.containers import lance_rows
from pipeline.labels.truth import Truth
from pipeline.training import images, pixels
from pipeline.training.copies import copied
from pipeline.training.folder import Folder
from pipeline.training.pixels import Image
from tests.support import drawn, packed, videos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `images/n.png`, the last three of which are in containers, too."""
    folder = tmp_path / "data"
    drawn.draw(folder)
    files = [(f"{n}.png", (folder / f"images/{n}.png").read_bytes()) for n in (1, 2, 3)]
    (folder / "a.tar").write_bytes(packed.tar(files))
    (folder / "a.zip").write_bytes(packed.zipped(files))
    (folder / "a.tgz").write_bytes(packed.tar(files, "w:gz"))
    column = pa.array([{"bytes": data, "path": name} for name, data in files])
    table = pa.table({"url": ["x"] * 3, "image": column})
    pq.write_table(table, folder / "a.parquet", row_group_size=2)
    lance.write_dataset(table, str(folder / "a.lance"))
    return folder


def located(folder: Path, names: list[str], listed: str = "") -> list[Image | str]:
    truth = Truth("t", ids=[*range(len(names))], names=names)
    config = Config(input=f"{folder}/{listed}", output=f"{folder}/to")
    return images.locate(truth, config, bool(listed))


def content(folder: Path, image: Image | str) -> np.ndarray | str:
    assert isinstance(image, Image)
    return pixels.read(Config(input=str(folder), output="out"), image)


def test_names_may_say_where_the_images_are(folder: Path) -> None:
    """Those of `corrections.parquet` are URIs; relative names start from the annotations."""
    names = [f"{folder}/images/0.png", "images/1.png", "s3://bucket/2.png", ""]
    expected = [Image(uri) for uri in (names[0], f"{folder}/images/1.png", names[2])]
    assert located(folder, names) == [*expected, "not found"]


@pytest.mark.parametrize(
    "kind,is_copied", [("tar", 0), ("zip", 0), ("tgz", 1), ("parquet", 1), ("lance", 1)]
)
def test_members_of_containers(folder: Path, kind: str, is_copied: bool) -> None:
    """Their pixels are those of the files, with a copy and, while there is none, without."""
    members = ["1", "0"] if kind in ("parquet", "lance") else ["2.png", "1.png"]
    names = ["images/0.png", *(f"a.{kind}#{member}" for member in members), f"a.{kind}#9.png"]
    *found, missing = located(folder, names)
    assert missing == "not found"
    there = [image for image in found if isinstance(image, Image)]
    after = copied(Config(input=str(folder), output=f"{folder}/to"), there)
    assert [bool(image.copy) for image in after] == [False, is_copied, is_copied]
    for number, *both in zip((0, 2, 1), found, after, strict=True):
        expected = content(folder, Image(f"{folder}/images/{number}.png"))
        assert all(np.array_equal(content(folder, image), expected) for image in both)
    (folder / f"a.{kind}").rename(folder / "gone")
    lance_rows._images.cache_clear()
    assert isinstance(content(folder, after[1]), str) is not is_copied
    Folder(f"{folder}/to").forget()
    assert isinstance(content(folder, after[1]), str) and not (folder / "to/_copies").exists()


def test_rows_of_the_version_that_the_run_read(folder: Path) -> None:
    """A change of a table of Lance may give the numbers of its rows to other images."""
    name = "a.lance#1"
    expected = content(folder, Image(f"{folder}/images/2.png"))
    lance.dataset(f"{folder}/a.lance").delete("image.path = '1.png'")
    for versions, same in (({name: 1}, True), ({}, False)):
        truth = Truth("t", ids=[0], names=[name], versions=versions)
        (found,) = images.locate(truth, Config(input=f"{folder}/", output="to"), False)
        assert np.array_equal(content(folder, found), expected) is same
    truth = Truth("t", ids=[0], names=[f"{folder}/{name}"], versions={f"{folder}/{name}": 1})
    config = Config(input=f"{folder}/a.lance", output="to", bytes_column="image")
    with pytest.raises(UsageError, match=r"a.lance#1 is of version 2 .* of version 1: leave --im"):
        images.locate(truth, config, True)


def test_a_frame_of_a_video(folder: Path) -> None:
    """Found by its time, whichever frames the run took."""
    videos.write(folder / "a.mp4", range(100, 140))
    found = located(folder, ["a.mp4#t=0.600", "a.mp4#t=0.601"])
    assert found[1] == "not found" and isinstance(found[0], Image)
    (after,) = copied(Config(input=str(folder), output=f"{folder}/to"), [found[0]])
    assert after.copy
    for image in (found[0], after):
        frame = content(folder, image)
        assert isinstance(frame, np.ndarray) and videos.number(frame) == 115


def test_pixels_are_those_that_the_run_saw(tmp_path: Path) -> None:
    """But for what the configuration says otherwise."""
    PIL.Image.fromarray(np.array([[200, 900]], np.uint16)).save(tmp_path / "a.png")
    config = Config(input=str(tmp_path), output="out")
    run: dict[str, Any] = {"depth_range": [0, 1000], "bands": None}
    truth, other, unknown = Truth("t", reads=[run]), Truth("t", reads=[{}]), Truth("t")
    for given, truths, expected in (
        (config, [truth, unknown], [51, 230]),
        (config, [unknown], [0, 3]),
        (replace(config, depth_range=(0, 1800)), [truth, other], [28, 128]),
    ):
        found = pixels.read(pixels.as_the_run(given, truths), Image(f"{tmp_path}/a.png"))
        assert isinstance(found, np.ndarray) and found[0, :, 0].tolist() == expected
    with pytest.raises(UsageError, match=r"differ in depth_range \(\[0, 1000\] and None\): train"):
        pixels.as_the_run(config, [truth, other])


@pytest.mark.parametrize("name", ["b.tar", "b.parquet", "b.mp4"])
def test_a_container_that_is_not_there(folder: Path, name: str) -> None:
    """The failure of its images alone."""
    lost, there = located(folder, [f"{name}#1.png", "a.tar#1.png"])
    assert lost == f"cannot read {folder}/{name}: it does not exist" and isinstance(there, Image)


def test_a_container_that_may_not_be_read(folder: Path) -> None:
    """A table in a bucket names one of this machine."""
    truth = Truth("t", ids=[0], names=[f"{folder}/a.tar#1.png"])
    config = Config(input="s3://bucket/folder", output="out")
    (found,) = images.locate(truth, config, False)
    assert isinstance(found, str) and found.endswith("protocol 'file', named by an input on 's3'")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_images_of_a_given_container(folder: Path, kind: str) -> None:
    (found,) = located(folder, [f"a.{kind}#2.png"], f"a.{kind}")
    expected = content(folder, Image(f"{folder}/images/2.png"))
    assert np.array_equal(content(folder, found), expected)
    with pytest.raises(
        UsageError, match=rf"the annotations have '7.png', the input has '.*a.{kind}#1"
    ):
        located(folder, ["7.png"], f"a.{kind}")


def test_a_file_s_name_may_have_a_hash(folder: Path) -> None:
    (folder / "images/0.png").rename(folder / "a#0.png")
    (found,) = located(folder, ["a#0.png"])
    assert isinstance(content(folder, found), np.ndarray)
