"""Pascal VOC: an XML file an image, `ImageSets/Main/train.txt`, and the classes."""

from __future__ import annotations

import json
import posixpath

from pipeline.labels.export.folder import Folder
from pipeline.labels.export.target import Item, Job, Shard
from pipeline.labels.markup import escape

HEAD = (
    "<annotation>\n<folder>JPEGImages</folder>\n<filename>%s</filename>\n<size><width>%d</width>"
    "<height>%d</height><depth>3</depth></size>\n<segmented>0</segmented>\n"
)
OBJECT = (
    "<object><name>%s</name><pose>Unspecified</pose><truncated>0</truncated>"
    "<difficult>0</difficult>%s<bndbox><xmin>%.2f</xmin><ymin>%.2f</ymin><xmax>%.2f</xmax>"
    "<ymax>%.2f</ymax></bndbox></object>\n"
)
CONFIDENCE = "<confidence>%.6f</confidence>"


class Voc(Shard):
    """Corners are those of the run, in pixels from 0, with two decimals.

    The original VOC counts pixels from 1 and knows whole ones only; readers differ. labelformat,
    datumaro (and so CVAT) and panlabel take the numbers as they stand, which gives the same boxes.
    FiftyOne and mmdetection do too, but cut off the decimals: up to a pixel. supervision and
    detectron2 subtract 1 from xmin and ymin. If a score is asked for, it stands in `confidence`,
    which FiftyOne reads. `dataset_meta.json` names the classes for datumaro.
    """

    images = "JPEGImages"
    named_files = True
    how = "CVAT: zip {to} and upload it as PASCAL VOC 1.1; others: point them at {to}"

    def __init__(self, folder: Folder, job: Job) -> None:
        self.folder = folder
        self.confidence = job.options.confidence
        self.names = [escape(name) for name in job.classes.names]
        self.listed = folder.open("ImageSets/Main/train.txt")
        folder.put("dataset_meta.json", json.dumps({"labels": job.classes.names}).encode())

    def add(self, item: Item) -> None:
        image = item.image
        parts = [HEAD % (escape(item.name), image.width, image.height)]
        for place, score, corners in item.boxes:
            confidence = CONFIDENCE % score if self.confidence else ""
            parts.append(OBJECT % (self.names[place], confidence, *corners))
        parts.append("</annotation>\n")
        stem = posixpath.splitext(item.name)[0]
        self.folder.put(f"Annotations/{stem}.xml", "".join(parts).encode())
        self.listed.write(f"{stem}\n")

    def close(self) -> None:
        pass
