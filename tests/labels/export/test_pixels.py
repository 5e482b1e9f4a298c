"""Exports that are looked at: what is drawn, cut out, blurred, sorted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.labels.export.formats import pixels
from pipeline.labels.export.formats.pixels import COLOURS
from tests.support import outputs, synthetic
from tests.support.exports import names_of, run

FORMATS = ("pictures", "crops", "folders", "blurred")
# what JPEG may change of a smooth picture
NEAR = 12


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of thirty smooth images, each of the size that its row says; one is a PNG."""
    folder = tmp_path_factory.mktemp("pixels")
    names = [f"a/{number:02d}.jpg" for number in range(29)] + ["a/00.png"]
    output = synthetic.write(folder / "out", 30, 3, 16, input=f"{folder}/in", names=names)
    (folder / "in/a").mkdir(parents=True)
    for row in outputs.rows(str(output)):
        width, height = row["width"], row["height"]
        x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
        pixels = np.stack([x, y, 255 - x], axis=2).astype(np.uint8)
        Image.fromarray(pixels).save(row["image_uri"], quality=95)
    return output


def pixels_of(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def rows(output: Path) -> list[dict[str, Any]]:
    return [row for row in outputs.rows(str(output)) if row["status"] == "ok"]


def inside(row: dict[str, Any], margin: float = 0.0) -> np.ndarray:
    """[height, width] bool: in a box, or so near to one."""
    mask = np.zeros((row["height"], row["width"]), bool)
    for box in row["detections"]:
        left, top = (int(max(0, box[name] - margin)) for name in ("xmin", "ymin"))
        right, bottom = (int(np.ceil(box[name] + margin)) for name in ("xmax", "ymax"))
        mask[top:bottom, left:right] = True
    return mask


def test_pictures(output: Path, tmp_path: Path) -> None:
    assert run(output, tmp_path / "p", format="pictures") == 0
    names = names_of(tmp_path / "p")
    assert len(set(names.values())) == 30
    for row in rows(output):
        drawn = pixels_of(tmp_path / "p" / names[row["image_uri"]])
        before = pixels_of(row["image_uri"])
        assert drawn.shape == before.shape
        changed = np.abs(drawn - before).max(axis=2) > 60
        assert not (changed & ~inside(row, 120)).any()
        if row["detections"]:
            best = row["detections"][0]
            place = synthetic.NAMES.index(best["label"])
            colour = [int(COLOURS[place][i : i + 2], 16) for i in (1, 3, 5)]
            at = drawn[int(best["ymax"]) - 1, int(best["xmin"] + best["xmax"]) // 2]
            assert np.abs(at - colour).max() < 60
        else:
            assert np.abs(drawn - before).max() < NEAR


def test_crops(output: Path, tmp_path: Path) -> None:
    assert run(output, tmp_path / "c", "--score-threshold", "0.3", format="crops") == 0
    names = names_of(tmp_path / "c")
    count = 0
    for row in rows(output):
        stem = Path(names[row["image_uri"]]).with_suffix("")
        before = pixels_of(row["image_uri"])
        kept = [box for box in row["detections"] if box["score"] >= 0.3]
        for number, box in enumerate(kept):
            crop = pixels_of(tmp_path / "c" / box["label"] / f"{stem}-{number:03d}.jpg")
            left, top = int(box["xmin"]), int(box["ymin"])
            right, bottom = int(np.ceil(box["xmax"])), int(np.ceil(box["ymax"]))
            assert np.abs(crop - before[top:bottom, left:right]).max() < NEAR
            count += 1
    assert count == sum(1 for _ in (tmp_path / "c").rglob("*.jpg")) > 20


def test_what_is_around_a_crop(output: Path, tmp_path: Path) -> None:
    assert run(output, tmp_path / "c", "--padding", "0.5", format="crops") == 0
    names = names_of(tmp_path / "c")
    for row in rows(output):
        stem = Path(names[row["image_uri"]]).with_suffix("")
        for number, box in enumerate(row["detections"]):
            crop = pixels_of(tmp_path / "c" / box["label"] / f"{stem}-{number:03d}.jpg")
            size = []
            for low, high, limit in (("ymin", "ymax", "height"), ("xmin", "xmax", "width")):
                half = (np.float32(box[high]) - np.float32(box[low])) / 2
                first = max(0, int(np.floor(box[low] - half)))
                size.append(min(row[limit], int(np.ceil(box[high] + half))) - first)
            assert crop.shape[:2] == tuple(size)


def test_blurred(output: Path, tmp_path: Path) -> None:
    """Of what is in a box a few values are left; what is in none stays."""
    classes = tmp_path / "classes.yaml"
    classes.write_text("[person]")
    assert run(output, tmp_path / "b", "--classes", str(classes), format="blurred") == 0
    names = names_of(tmp_path / "b")
    for row in rows(output):
        row["detections"] = [box for box in row["detections"] if box["label"] == "person"]
        blurred = pixels_of(tmp_path / "b" / names[row["image_uri"]])
        before = pixels_of(row["image_uri"])
        assert np.abs(blurred - before)[~inside(row, 9)].max(initial=0) < NEAR


def test_nothing_is_left_of_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    output = synthetic.write(
        tmp_path / "out", 1, 3, input=f"{tmp_path}/in", names=["a.png"], seed=1
    )
    (row,) = rows(output)
    noise = np.random.default_rng(0).integers(0, 2, (row["height"], row["width"], 1)) * 255
    Image.fromarray(np.repeat(noise, 3, axis=2).astype(np.uint8)).save(tmp_path / "in/a.png")
    assert run(output, tmp_path / "b", format="blurred") == 0
    after = pixels_of(tmp_path / "b/a.jpg")
    within = inside(row, -9)
    assert within.any() and after[within].std() < 30 < 90 < after[~inside(row, 9)].std()


@pytest.mark.parametrize("flag", [(), ("--link",)])
def test_folders(output: Path, tmp_path: Path, flag: tuple[str, ...]) -> None:
    assert run(output, tmp_path / "f", *flag, format="folders") == 0
    names = names_of(tmp_path / "f")
    expected = {
        f"{folder}/{names[row['image_uri']]}": Path(row["image_uri"]).read_bytes()
        for row in rows(output)
        for folder in {box["label"] for box in row["detections"]} or {"_nothing"}
    }
    found = [path for path in (tmp_path / "f").rglob("*.*g") if path.suffix in (".jpg", ".png")]
    assert {str(path.relative_to(tmp_path / "f")): path.read_bytes() for path in found} == expected
    assert all(path.is_symlink() == bool(flag) for path in found)


def test_a_category_leads_nowhere_else(output: Path, tmp_path: Path) -> None:
    """What a category is called may be the word of whoever made the weights."""
    classes = tmp_path / "classes.yaml"
    classes.write_text("{person: ../../up, car: a/b}")
    to = tmp_path / "x/y/f"
    assert run(output, to, "--link", "--classes", str(classes), format="folders") == 0
    assert {path.name for path in to.iterdir() if path.is_dir()} == {".._.._up", "a_b", "_nothing"}
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["y"]


def test_what_is_refused(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(output, tmp_path / "x", "--link", format="crops") == 2
    assert "--link works only with --format folders" in capsys.readouterr().err
    assert run(output, tmp_path / "x", "--with-images", "--link", format="folders") == 2
    assert "--with-images works only with --format coco or yolo" in capsys.readouterr().err
    assert run(output, tmp_path / "x", "--padding", "-1", format="crops") == 2
    assert "--padding must be within 0 and 10" in capsys.readouterr().err
    elsewhere = synthetic.write(tmp_path / "elsewhere", 3)
    assert run(elsewhere, tmp_path / "y", "--link", format="folders") == 2
    assert "--link needs image files on this machine, not s3://" in capsys.readouterr().err


def test_images_that_are_others_now(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are named, and count as left out and not as exported."""
    caplog.set_level("WARNING", "pipeline")
    (tmp_path / "in").mkdir()
    names = ["a.jpg", "b.jpg", "c.jpg"]
    output = synthetic.write(tmp_path / "out", 3, 3, input=f"{tmp_path}/in", names=names)
    first, second, third = rows(output)
    Path(first["image_uri"]).write_bytes(b"no image")
    for row, more in ((second, 1), (third, 0)):
        size = row["width"] + more, row["height"]
        Image.new("RGB", size).save(row["image_uri"])
    assert run(output, tmp_path / "b", format="blurred") == 1
    assert "2 images could not be read" in capsys.readouterr().err
    assert list(names_of(tmp_path / "b")) == [third["image_uri"]]
    counts = json.loads((tmp_path / "b/export.json").read_text())["counts"]
    assert (counts["images"], counts["boxes"]) == (1, third["num_detections"])
    assert "b.jpg" in caplog.text and f"and {second['width'] + 1}x" in caplog.text
    monkeypatch.setattr(pixels, "LONGEST", third["width"] - 1)
    assert run(output, tmp_path / "p", format="pictures") == 1
    assert "c.jpg" in caplog.text and "a JPEG has at most" in caplog.text
