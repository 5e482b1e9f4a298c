"""YOLO: a text file an image, beside a folder for the images, and `data.yaml`."""

from __future__ import annotations

import posixpath

import numpy as np
import yaml

from pipeline.labels.export.folder import Folder
from pipeline.labels.export.target import Item, Job, Shard

LINE = "%d %.6f %.6f %.6f %.6f"


class Yolo(Shard):
    """A line a box: class (its place in `data.yaml`), centre and size as fractions of the image.

    Boxes are cut at the image's edge. An image without detections has an empty file, which means
    background. The score is a sixth column if asked for: Ultralytics' training refuses it,
    supervision and FiftyOne read it.

    `data.yaml` has no `path`: Ultralytics, labelformat and FiftyOne then start at the file's own
    folder, while Ultralytics takes a relative one from the working directory.
    """

    images = "images/train"
    named_files = True
    how_with_images = "Ultralytics: yolo train data={to}/data.yaml"
    how = "Ultralytics: put the images below {to}/images/train; yolo train data={to}/data.yaml"

    def __init__(self, folder: Folder, job: Job) -> None:
        self.folder = folder
        self.confidence = job.options.confidence
        names = dict(enumerate(job.classes.names))
        data = {"train": "images/train", "val": "images/train", "names": names}
        folder.put("data.yaml", yaml.safe_dump(data, allow_unicode=True, sort_keys=False).encode())

    def add(self, item: Item) -> None:
        image = item.image
        size = np.array([image.width, image.height] * 2, np.float64)
        low, high = np.split(np.clip(image.xyxy / size, 0, 1), 2, axis=1)
        columns = [image.classes[:, None], (low + high) / 2, high - low]
        line = LINE
        if self.confidence:
            columns.append(image.scores[:, None])
            line += " %.6f"
        rows = np.concatenate(columns, axis=1).tolist()
        text = "".join(f"{line % tuple(row)}\n" for row in rows)
        name = posixpath.splitext(item.name)[0]
        self.folder.put(f"labels/train/{name}.txt", text.encode())

    def close(self) -> None:
        pass


def without_images_folders(name: str) -> str:
    """The name with no folder called `images` in it.

    Ultralytics finds the labels of an image by replacing the last `/images/` of its path.
    """
    folder, slash, base = name.rpartition("/")
    parts = [f"{part}_" if part == "images" else part for part in folder.split("/")]
    return "/".join(parts) + slash + base
