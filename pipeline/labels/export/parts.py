"""The folders of an export: one, or one for so many images, or one for each directory."""

from __future__ import annotations

import csv
import posixpath
from collections import Counter, OrderedDict

from pipeline.labels.export.folder import Folder, Sender
from pipeline.labels.export.formats.coco import Coco
from pipeline.labels.export.formats.cvat import Cvat
from pipeline.labels.export.formats.cvat_video import CvatVideo
from pipeline.labels.export.formats.fiftyone import FiftyOne
from pipeline.labels.export.formats.folders import Folders
from pipeline.labels.export.formats.geojson import GeoJson
from pipeline.labels.export.formats.geoparquet import GeoParquet
from pipeline.labels.export.formats.huggingface import HuggingFace
from pipeline.labels.export.formats.labelstudio import LabelStudio
from pipeline.labels.export.formats.pixels import Blurred, Crops, Pictures
from pipeline.labels.export.formats.voc import Voc
from pipeline.labels.export.formats.yolo import Yolo
from pipeline.labels.export.naming import Names
from pipeline.labels.export.target import Item, Job, Shard

FORMATS: dict[str, type[Shard]] = {
    "coco": Coco,
    "yolo": Yolo,
    "voc": Voc,
    "labelstudio": LabelStudio,
    "cvat": Cvat,
    "cvat-video": CvatVideo,
    "fiftyone": FiftyOne,
    "huggingface": HuggingFace,
    "geojson": GeoJson,
    "geoparquet": GeoParquet,
    "pictures": Pictures,
    "crops": Crops,
    "folders": Folders,
    "blurred": Blurred,
}
MAX_OPEN = 64


class Parts:
    """Folders that each hold one complete export; at most `MAX_OPEN` of them are open.

    A directory whose images come in pieces, with many other directories between them, goes on in
    a folder of its own.
    """

    def __init__(self, sender: Sender, root: str, job: Job) -> None:
        self.sender = sender
        self.root = root
        self.job = job
        self.by_directory = job.options.by_directory or FORMATS[job.options.format].by_directory
        self.open: OrderedDict[str, _Part] = OrderedDict()
        self.made: Counter[str] = Counter()
        self.directories: dict[str, str] = {}
        self.names = Names()

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        """Close all folders; where the export broke off, only their files."""
        try:
            if kind is None:
                self.close()
        finally:
            for part in self.open.values():
                part.folder.abandon()

    def add(self, item: Item) -> None:
        options = self.job.options
        key = posixpath.dirname(item.name) if self.by_directory else ""
        if key not in self.open:
            self._open(key)
        self.open.move_to_end(key)
        self.open[key].add(item)
        self.job.counts["images"] += 1
        self.job.counts["boxes"] += len(item.image.scores)
        if self.open[key].images == options.tasks_per_file:
            self.open.pop(key).close()

    def _open(self, key: str) -> None:
        if len(self.open) >= MAX_OPEN:
            self.open.popitem(last=False)[1].close()
        self.made[key] += 1
        root = "/".join([self.root, *self._folders(key)])
        self.open[key] = _Part(Folder(self.sender, root), self.job)

    def _folders(self, key: str) -> list[str]:
        number = self.made[key]
        count = [f"{number:04d}"] if self.job.options.tasks_per_file else []
        if not self.by_directory:
            return count
        if key not in self.directories:
            flat = key.replace("/", "__").replace(".", "_") or "_"
            self.directories[key] = self.names.safe(flat, number)
        directory = self.directories[key]
        if number > 1 and not count:
            directory = self.names.safe(f"{directory}-{number:04d}", number)
        return [directory, *count]

    def close(self) -> None:
        """Close all folders; an export without any image still has one."""
        if not self.made:
            self._open("")
        while self.open:
            key, part = next(iter(self.open.items()))
            part.close()
            del self.open[key]


class _Part:
    """A folder with one complete export, and in it the way back from names to images."""

    def __init__(self, folder: Folder, job: Job) -> None:
        self.folder = folder
        self.shard = FORMATS[job.options.format](folder, job)
        self.names = csv.writer(folder.open("images.csv"))
        self.names.writerow(("name", "image_id", "image_uri", "width", "height"))
        self.images = 0

    def add(self, item: Item) -> None:
        if item.data is not None and self.shard.images:
            self.folder.put(f"{self.shard.images}/{item.name}", item.data)
        self.shard.add(item)
        image = item.image
        self.names.writerow((item.name, image.image_id, image.uri, image.width, image.height))
        self.images += 1

    def close(self) -> None:
        self.shard.close()
        self.folder.close()
