"""Readers that are quick to install: pycocotools, labelformat, panlabel, datasets."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.readers import Found, names, stem

# ------------------------------------------------------------------------------- pycocotools


def coco_pycocotools(folder: str) -> Found:
    from pycocotools.coco import COCO

    return _coco(COCO(f"{folder}/instances.json"))


def coco_results_pycocotools(folder: str) -> Found:
    from pycocotools.coco import COCO

    return _coco(COCO(f"{folder}/instances.json").loadRes(f"{folder}/results.json"))


def _coco(data: Any) -> Found:
    found: Found = {stem(image["file_name"]): [] for image in data.dataset["images"]}
    for entry in data.dataset["annotations"]:
        x, y, width, height = entry["bbox"]
        name = stem(data.imgs[entry["image_id"]]["file_name"])
        label = data.cats[entry["category_id"]]["name"]
        found[name].append([label, x, y, x + width, y + height, entry["score"]])
    return found


# ------------------------------------------------------------------------------- labelformat


def yolo_labelformat(folder: str) -> Found:
    from labelformat.formats import YOLOv8ObjectDetectionInput

    return _labelformat(YOLOv8ObjectDetectionInput(Path(folder) / "data.yaml", "train"))


def class_names(folder: str) -> list[str]:
    record = json.loads((Path(folder) / "export.json").read_text())
    return [entry["name"] for entry in record["classes"]]


def voc_labelformat(folder: str) -> Found:
    from labelformat.formats import PascalVOCObjectDetectionInput

    found: Found = {}
    for directory in {path.parent for path in Path(folder).glob("Annotations/**/*.xml")}:
        classes = ",".join(class_names(folder))  # it reads one directory
        found |= _labelformat(PascalVOCObjectDetectionInput(directory, classes))
    return found


def cvat_labelformat(folder: str) -> Found:
    from labelformat.formats import CVATObjectDetectionInput

    return _labelformat(CVATObjectDetectionInput(Path(folder) / "annotations.xml"))


def coco_labelformat(folder: str) -> Found:
    from labelformat.formats import COCOObjectDetectionInput

    return _labelformat(COCOObjectDetectionInput(Path(folder) / "instances.json"))


def _labelformat(source: Any) -> Found:
    return {
        stem(label.image.filename): [
            [o.category.name, o.box.xmin, o.box.ymin, o.box.xmax, o.box.ymax, None]
            for o in label.objects
        ]
        for label in source.get_labels()
    }


# ------------------------------------------------------------------------------- panlabel


def panlabel(kind: str, source: str) -> Callable[[str], Found]:
    def read(folder: str) -> Found:
        program = str(Path(sys.executable).with_name("panlabel"))
        with tempfile.TemporaryDirectory() as scratch:
            result = f"{scratch}/ir.json"
            command = [
                program,
                "convert",
                "--from",
                kind,
                "--to",
                "ir-json",
                "--allow-lossy",
                "--input",
                f"{folder}/{source}",
                "--output",
                result,
            ]
            if kind == "yolo":
                command += ["--split", "train"]
            subprocess.run(command, check=True, capture_output=True)
            data = json.loads(Path(result).read_text())
        called = {entry["id"]: entry["file_name"] for entry in data["images"]}
        labels = {entry["id"]: entry["name"] for entry in data["categories"]}
        found: Found = {stem(name).removeprefix("train/"): [] for name in called.values()}
        for entry in data["annotations"]:
            corners = [entry["bbox"][key] for key in ("xmin", "ymin", "xmax", "ymax")]
            name = stem(called[entry["image_id"]]).removeprefix("train/")
            score = entry.get("confidence")
            found[name].append([labels[entry["category_id"]], *corners, score])
        return found

    return read


# ------------------------------------------------------------------------------- datasets


def huggingface_datasets(folder: str) -> Found:
    from datasets import Image, load_dataset

    with tempfile.TemporaryDirectory() as scratch:
        rows = load_dataset(
            "parquet", data_files=f"{folder}/data/*.parquet", split="train", cache_dir=scratch
        )
        assert isinstance(rows.features["image"], Image)
        labels = rows.features["objects"]["category"].feature
        called = names(folder)
        found: Found = {}
        for row in rows.cast_column("image", Image(decode=False)):
            objects = row["objects"]
            found[called[row["image_id"]]] = [
                [labels.int2str(category), x, y, x + width, y + height, score]
                for (x, y, width, height), category, score in zip(
                    objects["bbox"], objects["category"], objects["score"], strict=True
                )
            ]
    return found
