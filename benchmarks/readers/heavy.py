"""Readers with many dependencies: Label Studio, supervision, Ultralytics, datumaro, FiftyOne."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.readers import Found, names, stem

# ------------------------------------------------------------------------------- Label Studio


def labelstudio_sdk(folder: str) -> Found:
    from label_studio_sdk.label_interface import LabelInterface

    config = LabelInterface((Path(folder) / "label_config.xml").read_text())
    called = names(folder)
    found: Found = {}
    for task in json.loads((Path(folder) / "tasks.json").read_text()):
        (prediction,) = task["predictions"]
        errors = config.validate_prediction(prediction, return_errors=True)
        assert not errors, errors
        rows = found[called[task["data"]["image_id"]]] = []
        for region in prediction["result"]:
            value, scale = region["value"], (region["original_width"], region["original_height"])
            x, y, width, height = (
                value[key] / 100 * scale[number % 2]
                for number, key in enumerate(("x", "y", "width", "height"))
            )
            label = value["rectanglelabels"][0]
            rows.append([label, x, y, x + width, y + height, region["score"]])
    return found


# ------------------------------------------------------------------------------- supervision


def supervision(kind: str) -> Callable[[str], Found]:
    def read(folder: str) -> Found:
        import supervision as sv

        if kind == "coco":
            data = sv.DetectionDataset.from_coco(f"{folder}/images", f"{folder}/instances.json")
        elif kind == "yolo":
            data = sv.DetectionDataset.from_yolo(
                f"{folder}/images/train", f"{folder}/labels/train", f"{folder}/data.yaml"
            )
        else:
            data = sv.DetectionDataset.from_pascal_voc(
                f"{folder}/JPEGImages", f"{folder}/Annotations"
            )
        found: Found = {}
        for path in data.image_paths:
            boxes = data.annotations[path]
            scores = [None] * len(boxes) if boxes.confidence is None else boxes.confidence.tolist()
            found[stem(os.path.basename(path))] = [
                [data.classes[label], *corners, score]
                for label, corners, score in zip(
                    boxes.class_id, boxes.xyxy.tolist(), scores, strict=True
                )
            ]
        return found

    return read


# ------------------------------------------------------------------------------- Ultralytics


def yolo_ultralytics(folder: str) -> Found:
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(f"{folder}/data.yaml", autodownload=False)
    found: Found = {}
    for entry in YOLODataset(img_path=data["train"], data=data, task="detect").labels:
        height, width = entry["shape"]
        rows = found[stem(os.path.relpath(entry["im_file"], data["train"]))] = []
        for (label,), (x, y, w, h) in zip(entry["cls"], entry["bboxes"].tolist(), strict=True):
            corners = [
                (x - w / 2) * width,
                (y - h / 2) * height,
                (x + w / 2) * width,
                (y + h / 2) * height,
            ]
            rows.append([data["names"][int(label)], *corners, None])
    return found


# ------------------------------------------------------------------------------- datumaro


def datumaro(kind: str) -> Callable[[str], Found]:
    def read(folder: str) -> Found:
        from datumaro import Dataset

        with tempfile.TemporaryDirectory() as scratch:
            if kind == "coco_instances":  # it wants a layout of its own
                os.mkdir(f"{scratch}/annotations")
                target = f"{scratch}/annotations/instances_train.json"
                os.symlink(os.path.abspath(f"{folder}/instances.json"), target)
                os.symlink(os.path.abspath(f"{folder}/images"), f"{scratch}/images")
            data = Dataset.import_from(scratch if os.listdir(scratch) else folder, kind)
            labels = data.categories()[_label_type()]
            return {
                item.id: [
                    [labels[box.label].name, *box.points, box.attributes.get("score")]
                    for box in item.annotations
                ]
                for item in data
            }

    return read


def _label_type() -> Any:
    from datumaro.components.annotation import AnnotationType

    return AnnotationType.label


# ------------------------------------------------------------------------------- FiftyOne


def fiftyone(kind: str) -> Callable[[str], Found]:
    def read(folder: str) -> Found:
        folder = os.path.abspath(folder)
        found: Found = {}
        for path, labels in _samples(kind, folder):
            width, height = _size(path)
            rows = found[stem(os.path.relpath(path, _media(kind, folder)))] = []
            for detection in labels.detections if labels else ():
                x, y, w, h = detection.bounding_box
                corners = [x * width, y * height, (x + w) * width, (y + h) * height]
                score = detection.confidence
                if score is None and "score" in detection:
                    score = detection["score"]
                rows.append([detection.label, *corners, score])
        return found

    return read


def _media(kind: str, folder: str) -> str:
    folders = {"fiftyone": "data", "yolo": "images/train", "voc": "JPEGImages"}
    return f"{folder}/{folders.get(kind, 'images')}"


def _samples(kind: str, folder: str) -> Iterable[tuple[str, Any]]:
    import fiftyone.utils.coco as coco
    import fiftyone.utils.cvat as cvat
    import fiftyone.utils.data as data
    import fiftyone.utils.voc as voc
    import fiftyone.utils.yolo as yolo

    media = _media(kind, folder)
    importer = {
        "fiftyone": lambda: data.FiftyOneImageDetectionDatasetImporter(folder),
        "yolo": lambda: yolo.YOLOv5DatasetImporter(folder, yaml_path="data.yaml", split="train"),
        "voc": lambda: voc.VOCDetectionDatasetImporter(
            data_path=media, labels_path=f"{folder}/Annotations"
        ),
        "cvat": lambda: cvat.CVATImageDatasetImporter(
            data_path=media, labels_path=f"{folder}/annotations.xml"
        ),
        "coco": lambda: coco.COCODetectionDatasetImporter(
            data_path=media, labels_path=f"{folder}/instances.json", label_types="detections"
        ),
    }[kind]()
    importer.setup()
    for path, _, labels in importer:
        yield path, labels["detections"] if isinstance(labels, dict) else labels


def _size(path: str) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        return image.size
