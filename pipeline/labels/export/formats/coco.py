"""COCO: `instances.json`, a data set, and `results.json`, detections for an evaluation."""

from __future__ import annotations

import json
from typing import Any

from pipeline.labels.export.folder import Folder, pour
from pipeline.labels.export.target import Item, Job, Shard

ANNOTATION = (
    '{"id":%d,"image_id":%d,"category_id":%d,"bbox":[%.2f,%.2f,%.2f,%.2f],"area":%.2f,'
    '"iscrowd":0,"segmentation":[],"score":%.6f}'
)
RESULT = '{"image_id":%s,"category_id":%d,"bbox":[%.2f,%.2f,%.2f,%.2f],"score":%.6f}'


class Coco(Shard):
    """Ids of images are those of the run plus one, those of annotations start at one.

    CVAT and others refuse an id of zero. `results.json` has the ids of the given annotations, if
    any; images and classes that these lack are not in it.
    """

    how = (
        "FiftyOne: fo.Dataset.from_dir(dataset_type=fo.types.COCODetectionDataset, "
        "data_path=IMAGES, labels_path='{to}/instances.json'); CVAT: upload instances.json as COCO "
        "1.0; pycocotools: COCO(ANNOTATIONS).loadRes('{to}/results.json')"
    )

    def __init__(self, folder: Folder, job: Job) -> None:
        self.job = job
        self.prefix = job.options.image_prefix or ""
        self.ids = job.classes.ids
        names = job.classes.names
        self.result_ids: list[int | None] = list(self.ids)
        if job.truth:
            self.result_ids = [k if k >= 0 else None for k in job.truth.ids_of(names)]
        categories = [{"id": i, "name": name} for i, name in zip(self.ids, names, strict=True)]
        self.instances = folder.open("instances.json")
        self.instances.write(f'{{"categories":{json.dumps(categories)},\n"images":[')
        self.results = folder.open("results.json")
        self.results.write("[")
        self.annotations = folder.spool()
        self.listed = self.annotated = self.resulted = 0

    def add(self, item: Item) -> None:
        image = item.image
        name = json.dumps(self.prefix + item.name)
        self.instances.write(
            f'{"," if self.listed else ""}\n{{"id":{image.image_id + 1},"file_name":{name},'
            f'"width":{image.width},"height":{image.height}}}'
        )
        self.listed += 1
        boxes = [
            (place, x, y, right - x, bottom - y, score)
            for place, score, (x, y, right, bottom) in item.boxes
        ]
        lines = [
            ANNOTATION % (n, image.image_id + 1, self.ids[place], x, y, w, h, w * h, score)
            for n, (place, x, y, w, h, score) in enumerate(boxes, self.annotated + 1)
        ]
        if lines:
            self.annotations.write((",\n" if self.annotated else "\n") + ",\n".join(lines))
            self.annotated += len(lines)
        self._add_results(item, boxes)

    def _add_results(
        self, item: Item, boxes: list[tuple[int, float, float, float, float, float]]
    ) -> None:
        image_id: Any = item.image.image_id + 1
        if self.job.truth:
            place = self.job.truth_places.get(item.image.image_id)
            if place is None:
                self.job.counts["images_not_in_annotations"] += 1
                return
            image_id = self.job.truth.ids[place]
        written = json.dumps(image_id)
        lines = [
            RESULT % (written, category, x, y, w, h, score)
            for place, x, y, w, h, score in boxes
            if (category := self.result_ids[place]) is not None
        ]
        if len(lines) < len(boxes):
            self.job.counts["boxes_of_classes_not_in_annotations"] += len(boxes) - len(lines)
        if lines:
            self.results.write((",\n" if self.resulted else "\n") + ",\n".join(lines))
            self.resulted += len(lines)

    def close(self) -> None:
        self.results.write("\n]\n")
        self.instances.write('\n],\n"annotations":[')
        pour(self.annotations, self.instances)
        self.instances.write("\n]}\n")
