"""Exports, read by programs that are not ours and compared with the output's own rows."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from benchmarks.readback import compare
from benchmarks.readers import Found, stem
from benchmarks.readers.table import READERS
from jobs.export import main, show
from pipeline.labels.export.exporter import export
from pipeline.labels.export.parts import FORMATS
from pipeline.labels.export.target import Options
from pipeline.labels.markup import valid
from tests.support import outputs, synthetic
from tests.support.exports import LABELS, expected, renamed, run

IMAGES = 101  # the hundredth failed
LIGHT = ("pycocotools", "labelformat", "panlabel", "datasets")
INSTALLED = [name for name, (_, package, _) in READERS.items() if package in LIGHT]
HOSTILE = "a \"b\" <c> & 'd' %s {e}: #é 日本\n\tf,]]>"


def read(reader: str, folder: Path) -> Found:
    return READERS[reader][2](str(folder))


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output whose images are there, of the sizes that its rows say."""
    root = tmp_path_factory.mktemp("export")
    names = [f"{number:04d}.png" for number in range(IMAGES)]
    output = synthetic.write(root / "out", IMAGES, 5, 16, input=str(root / "images"), names=names)
    (root / "images").mkdir()
    for row in outputs.rows(str(output)):
        size = (row["width"] or 9, row["height"] or 9)
        Image.new("L", size, row["image_id"] % 256).save(row["image_uri"])
    return output


@pytest.fixture(scope="module")
def exported(output: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an export with images in a format, made once."""
    root = tmp_path_factory.mktemp("formats")

    def folder(kind: str) -> Path:
        if not (root / kind).exists():
            # panlabel wants addresses that end in a file's name
            prefix = "http://host/" if kind == "labelstudio" else None
            options = Options(
                format=kind, to=str(root / kind), with_images=True, image_prefix=prefix
            )
            record = export(str(output), options)
            assert record["counts"]["images"] == IMAGES - 1
            assert record["counts"]["images_failed"] == 1
        return root / kind

    return folder


@pytest.mark.parametrize("reader", INSTALLED)
def test_another_program_reads_the_same_boxes(
    reader: str, output: Path, exported: Callable[[str], Path]
) -> None:
    truth = expected(output)
    assert sum(map(len, truth.values())) > 200 and [] in truth.values()
    pixels, score = compare(truth, read(reader, exported(READERS[reader][0])))
    assert pixels <= 0.0101
    if READERS[reader][0] in ("coco", "labelstudio", "huggingface") and "labelformat" not in reader:
        assert score is not None and score < 1e-6


@pytest.mark.parametrize("kind", LABELS)
def test_every_folder_says_what_it_is(
    kind: str, output: Path, exported: Callable[[str], Path]
) -> None:
    folder = exported(kind)
    record = json.loads((folder / "export.json").read_text())
    truth = expected(output)
    assert record["format"] == kind and record["run_id"] == synthetic.RUN_ID
    assert record["model_id"] == synthetic.DETECTOR["model_id"]
    assert record["counts"]["boxes"] == sum(map(len, truth.values()))
    assert [entry["name"] for entry in record["classes"]] == list(synthetic.NAMES)
    with open(folder / "images.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {stem(row["name"]) for row in rows} == set(truth)
    assert all(row["image_uri"].endswith(row["name"]) for row in rows)


@pytest.mark.parametrize("kind", [kind for kind, shard in FORMATS.items() if shard.images])
def test_images_are_copied_unchanged(kind: str, exported: Callable[[str], Path]) -> None:
    folder = exported(kind)
    with open(folder / "images.csv", newline="") as file:
        for row in csv.DictReader(file):
            copy = folder / str(FORMATS[kind].images) / row["name"]
            assert copy.read_bytes() == Path(row["image_uri"]).read_bytes()


def test_huggingface_embeds_the_images(exported: Callable[[str], Path]) -> None:
    from datasets import load_dataset

    folder = exported("huggingface")
    # the folder itself is a data set too: the other files in it are not taken for data
    rows = load_dataset(str(folder), split="train", cache_dir=str(folder / "cache"))
    assert rows.num_rows == IMAGES - 1
    assert rows[7]["image"].size == (rows[7]["width"], rows[7]["height"])
    assert rows.features["objects"]["category"].feature.names == list(synthetic.NAMES)


def test_fiftyone(output: Path, exported: Callable[[str], Path]) -> None:
    # FiftyOne itself reads it in benchmarks.readback
    labels = json.loads((exported("fiftyone") / "labels.json").read_text())
    sizes = {
        stem(os.path.basename(row["image_uri"])): (row["width"], row["height"])
        for row in outputs.rows(str(output))
    }
    found: Found = {}
    for name, detections in labels["labels"].items():
        width, height = sizes[name]
        found[name] = [
            [d["label"], x * width, y * height, (x + w) * width, (y + h) * height, d["confidence"]]
            for d in detections
            for x, y, w, h in [d["bounding_box"]]
        ]
    pixels, score = compare(expected(output), found)
    assert pixels < 0.001 and score is not None and score < 1e-6
    assert labels["classes"] == list(synthetic.NAMES)


def test_fiftyone_without_images_says_where_they_are(output: Path, tmp_path: Path) -> None:
    export(str(output), Options(format="fiftyone", to=str(tmp_path / "a")))
    places = json.loads((tmp_path / "a" / "data.json").read_text())
    assert all(Path(place).exists() for place in places.values()) and len(places) == IMAGES - 1


def test_an_image_that_is_gone_is_named(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    gone = outputs.rows(str(output))[3]["image_uri"]
    os.rename(gone, f"{gone}.away")
    try:
        code = main([str(output), "--format", "yolo", "--to", str(tmp_path / "a"), "--with-images"])
    finally:
        os.rename(f"{gone}.away", gone)
    assert code == 1
    assert "1 image could not be read" in capsys.readouterr().err
    assert gone in caplog.text
    counts = json.loads((tmp_path / "a" / "export.json").read_text())["counts"]
    assert counts["images"] == IMAGES - 2 and counts["images_unreadable"] == 1
    assert len(list((tmp_path / "a" / "labels/train").iterdir())) == IMAGES - 2


def test_scores_where_they_are_asked_for(output: Path, tmp_path: Path) -> None:
    scores = [row[5] for row in expected(output)["0000"]]
    assert scores
    for kind in ("yolo", "voc", "cvat"):
        export(str(output), Options(format=kind, to=str(tmp_path / kind), confidence=True))
    lines = (tmp_path / "yolo/labels/train/0000.txt").read_text().splitlines()
    assert [float(line.split()[5]) for line in lines] == pytest.approx(scores, abs=1e-6)
    xml = (tmp_path / "voc/Annotations/0000.xml").read_text()
    assert xml.count("<confidence>") == len(scores)
    # readers without a place for it still read the rest
    for reader in ("voc_panlabel", "voc_labelformat", "cvat_panlabel", "cvat_labelformat"):
        pixels, _ = compare(expected(output), read(reader, tmp_path / READERS[reader][0]))
        assert pixels < 0.01


@pytest.mark.parametrize(
    "reader",
    [
        "coco_pycocotools",
        "yolo_panlabel",
        "voc_panlabel",
        "labelstudio_panlabel",
        "cvat_panlabel",
        "cvat_labelformat",
        "huggingface_datasets",
    ],
)
def test_class_names_of_any_text(reader: str, output: Path, tmp_path: Path) -> None:
    kind = READERS[reader][0]
    names = {"person": HOSTILE, "car": "yes", "dog": "1.5"}
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(names))
    export(
        str(output),
        Options(
            format=kind,
            to=str(tmp_path / "a"),
            classes=str(tmp_path / "classes.yaml"),
            with_images=True,
            image_prefix="http://host/" if kind == "labelstudio" else None,
        ),
    )
    pixels, _ = compare(renamed(expected(output), names), read(reader, tmp_path / "a"))
    assert pixels <= 0.0101


def test_xml_has_no_characters_that_it_cannot_hold() -> None:
    assert valid("a\x00\x08\x1f\ufffeb\ud800\n") == "a" + 4 * "\ufffd" + "b\ufffd\n"
    assert valid(HOSTILE) == HOSTILE


def test_a_label_studio_task_is_of_the_copy(output: Path, tmp_path: Path) -> None:
    options = Options(format="labelstudio", to=str(tmp_path / "a"), with_images=True)
    export(str(output), options)
    for task in json.loads((tmp_path / "a/tasks.json").read_text()):
        path = task["data"]["image"].removeprefix("/data/local-files/?d=")
        assert Path(f"/{path}").parent == tmp_path / "a/images" and Path(f"/{path}").exists()


@pytest.mark.parametrize("flags,said", [((), "put the images below"), (("--with-images",), "data")])
def test_what_is_to_be_done_next(
    output: Path,
    tmp_path: Path,
    flags: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(output, tmp_path / "a", *flags, format="yolo") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert said in last and ("put the images" in last) == (not flags)


@pytest.mark.parametrize("to", ["a", "s3://bucket/a"])
def test_what_most_programs_cannot_open_in_a_bucket(
    to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show({"format": "yolo", "counts": {"images": 1, "boxes": 1}}, Options(format="yolo", to=to))
    assert ("cannot read s3:// needs a copy" in capsys.readouterr().out) == (to != "a")
