"""FiftyOne: its `FiftyOneImageDetectionDataset`, which keeps scores and can be streamed."""

from __future__ import annotations

import json
import posixpath

from pipeline.labels.export.folder import Folder
from pipeline.labels.export.naming import Names
from pipeline.labels.export.target import Item, Job, Shard

DETECTION = '{"label":%s,"bounding_box":[%.7f,%.7f,%.7f,%.7f],"confidence":%.6f}'


class FiftyOne(Shard):
    """`labels.json`, and the images in `data/`, or `data.json`, which says where they are.

    Boxes are left, top, width and height as fractions of the image. FiftyOne knows an image by
    its name without extension, so that is made unique.
    """

    images = "data"
    how = (
        "FiftyOne: fo.Dataset.from_dir('{to}', dataset_type=fo.types.FiftyOneImageDetectionDataset,"
        " label_field='predictions')"
    )

    def __init__(self, folder: Folder, job: Job) -> None:
        self.prefix = job.options.image_prefix
        self.labels = [json.dumps(name) for name in job.classes.names]
        self.file = folder.open("labels.json")
        self.file.write(f'{{"classes":{json.dumps(job.classes.names)},\n"labels":{{')
        self.places = None if job.options.with_images else folder.open("data.json")
        if self.places:
            self.places.write("{")
        self.separator = "\n"
        self.names = Names()

    def add(self, item: Item) -> None:
        image = item.image
        width, height = image.width, image.height
        detections = ",".join(
            DETECTION
            % (
                self.labels[place],
                x / width,
                y / height,
                (right - x) / width,
                (bottom - y) / height,
                score,
            )
            for place, score, (x, y, right, bottom) in item.boxes
        )
        name = self.names.safe(item.name, image.image_id) if self.places else item.name
        stem = posixpath.splitext(name)[0]
        self.file.write(f"{self.separator}{json.dumps(stem)}:[{detections}]")
        if self.places:
            # the suffix is cut off by FiftyOne, so there must be one
            place = image.uri if self.prefix is None else self.prefix + item.name
            self.places.write(f"{self.separator}{json.dumps(stem + '.jpg')}:{json.dumps(place)}")
        self.separator = ",\n"

    def close(self) -> None:
        self.file.write("\n}}\n")
        if self.places:
            self.places.write("\n}\n")
