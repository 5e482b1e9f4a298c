"""What an export is made of: what was asked for, an image's place in it, what writes a format."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from pipeline.errors import UsageError
from pipeline.labels.boxes import Image
from pipeline.labels.calibration import Calibration
from pipeline.labels.classes import Classes
from pipeline.labels.export.folder import Folder
from pipeline.labels.export.projection import Polygons
from pipeline.labels.truth import Truth
from pipeline.store import urls

log = logging.getLogger(__name__)
NAMED = 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to export, and how.

    Args:
        format: a name in `pipeline.labels.export.parts.FORMATS`.
        to: folder, as a path or any fsspec URL; empty, or not there yet.
        score_threshold: keep detections of at least this score.
        thresholds: likewise by class name.
        classes: YAML file that selects and renames classes, see `pipeline.labels.classes`.
        agnostic_nms: IoU above which a box is a double of a better one of any class, and left out.
        tasks_per_file: split into folders of so many images.
        by_directory: a folder for each directory of the images.
        images: table with the URIs of the images to export; default: all.
        with_images: copy the images' encoded bytes too.
        image_prefix: stands before each image's name in place of the image's own URI.
        padding: of crops and blurred boxes, a share of the box's size on each side.
        link: links to the images in place of copies.
        confidence: write scores also where the format has no usual place for them.
        annotations: as `pipeline.labels.truth` reads them, whose ids `results.json` shall have.
        accept: calibration by which images that need no look are set apart from the others.

    Raises:
        UsageError: options that do not go together.
    """

    format: str
    to: str
    score_threshold: float = 0.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    classes: str | None = None
    agnostic_nms: float | None = None
    tasks_per_file: int | None = None
    by_directory: bool = False
    images: str | None = None
    with_images: bool = False
    image_prefix: str | None = None
    padding: float = 0.0
    link: bool = False
    confidence: bool = False
    annotations: str | None = None
    accept: str | None = None

    def __post_init__(self) -> None:
        if self.tasks_per_file is not None and self.tasks_per_file < 1:
            raise UsageError(f"--tasks-per-file must be above 0, not {self.tasks_per_file}")
        if not 0 <= self.padding <= 10:
            raise UsageError(f"--padding must be within 0 and 10, not {self.padding:g}")
        if self.format == "cvat-video" and self.tasks_per_file:
            raise UsageError(
                "--format cvat-video writes a folder for each video: leave out --tasks-per-file"
            )
        limited = {
            "--with-images": (
                self.with_images,
                ("coco", "yolo", "voc", "labelstudio", "cvat", "fiftyone", "huggingface"),
            ),
            "--padding": (self.padding, ("crops", "blurred")),
            "--link": (self.link, ("folders",)),
            "--image-prefix": (
                self.image_prefix,
                ("coco", "labelstudio", "cvat", "fiftyone", "huggingface"),
            ),
            "--confidence": (self.confidence, ("yolo", "voc", "cvat", "cvat-video")),
            "--annotations": (self.annotations, ("coco",)),
        }
        for flag, (value, formats) in limited.items():
            if value and self.format not in formats:
                raise UsageError(f"{flag} works only with --format {' or '.join(formats)}")


@dataclass(frozen=True)
class Job:
    """What all folders of an export share.

    Attributes:
        options: as asked for.
        classes: that are kept.
        model_id: of the run.
        record: of the run.
        truth: the annotations whose ids to use, if any.
        truth_places: place in their `ids` of each image that they have, by the run's `image_id`.
        counts: of what was exported and left out, by name.
        calibration: by which images that need no look are set apart, if any.
        redone: [n] int64, rising ids of images that were processed after the calibration.
        last_frames: of each video by its URI, in an export of tracks.
        accepted: ids of images that need no look, until they are written.
    """

    options: Options
    classes: Classes
    model_id: str
    record: Mapping[str, Any]
    truth: Truth | None
    counts: Counter[str]
    truth_places: Mapping[int, int] = field(default_factory=dict)
    calibration: Calibration | None = None
    redone: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    last_frames: Mapping[str, int] = field(default_factory=dict)
    accepted: set[int] = field(default_factory=set)

    def leave_out(self, key: str, image: Image, why: str) -> None:
        """Count an image that is not exported, and name it if it is among the first."""
        self.counts[key] += 1
        if self.counts[key] <= NAMED:
            log.warning("left out: %r (%s)", urls.public(image.uri), why)


@dataclass(frozen=True)
class Item:
    """An image to be exported.

    Attributes:
        image: with the detections that are kept.
        name: relative path, unique in the export; where files are written under it, one that is
            safe on any system.
        data: the encoded image, where images are exported too.
        polygons: of each detection, in degrees of WGS 84, where the format is one of maps.
        files: names and contents of what is made of the pixels, where the format is of these.
    """

    image: Image
    name: str
    data: bytes | None
    polygons: list[Polygons] = field(default_factory=list)
    files: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def boxes(self) -> Iterator[tuple[int, float, list[float]]]:
        """Of each detection the place of its class in the names, its score, its corners."""
        image = self.image
        return zip(image.classes.tolist(), image.scores.tolist(), image.xyxy.tolist(), strict=True)


class Shard(ABC):
    """One complete export in one folder.

    Attributes:
        images: subfolder for the images' bytes; None if they do not become files.
        named_files: whether files are called as the images even without these.
        needs_images: whether labels are nothing without the images.
        on_a_map: whether they are where the image's georeference says, not in pixels.
        by_directory: whether there is a folder for each directory without being asked for.
        suffix: of the files that are made of the images, if not their own.
        how: how people bring it into the tool; `{to}` is the folder.
        how_with_images: likewise, where the images are there already, if that differs.
    """

    images: ClassVar[str | None] = "images"
    named_files: ClassVar[bool] = False
    needs_images: ClassVar[bool] = False
    on_a_map: ClassVar[bool] = False
    by_directory: ClassVar[bool] = False
    suffix: ClassVar[str | None] = None
    how: ClassVar[str]
    how_with_images: ClassVar[str | None] = None

    @abstractmethod
    def __init__(self, folder: Folder, job: Job) -> None: ...

    @abstractmethod
    def add(self, item: Item) -> None:
        """Write an image's detections; images come in order of id."""

    @abstractmethod
    def close(self) -> None:
        """Write what is known only at the end; the caller closes the folder."""
