"""Exports that a person looks at: pictures with their boxes, crops, images with boxes blurred."""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from pipeline.images.errors import DecodeError
from pipeline.labels import originals
from pipeline.labels.ahead import ahead
from pipeline.labels.export.folder import Folder
from pipeline.labels.export.naming import safe_part
from pipeline.labels.export.target import Item, Job, Shard
from pipeline.words import printable

QUALITY = 92
LONGEST = 65_500  # pixels of a side that libjpeg writes
# told apart by most eyes, on most pictures: Okabe and Ito's palette (jfly.uni-koeln.de/color)
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
NAME = 24  # characters of a category on a box
# the long side, in pixels, to which a blurred box is brought down
BLURRED = 6


class Pixels(Shard):
    """JPEG files made of upright pixels; nothing of the EXIF goes along."""

    images = None
    needs_images = True
    suffix = ".jpg"

    def __init__(self, folder: Folder, job: Job) -> None:
        self.folder = folder

    def add(self, item: Item) -> None:
        for name, data in item.files:
            self.folder.put(name, data)

    def close(self) -> None:
        pass

    @staticmethod
    @abstractmethod
    def files(item: Item, pixels: Pillow.Image, job: Job) -> Iterator[tuple[str, Pillow.Image]]:
        """Names and pictures of what is made of an image, which may be changed."""


def drawn(kind: type[Pixels], items: Iterator[Item], job: Job) -> Iterator[Item]:
    """The images with the files that are made of them; those that are others now are left out."""
    for item, made in ahead(partial(_files, kind, job), items, min(8, os.cpu_count() or 1)):
        files = made.result()
        if isinstance(files, str):
            job.leave_out("images_unreadable", item.image, files)
        else:
            yield replace(item, data=None, files=files)


def _files(kind: type[Pixels], job: Job, item: Item) -> list[tuple[str, bytes]] | str:
    """The files of an image, or the reason why there are none."""
    image = item.image
    assert item.data is not None
    try:
        pixels = Pillow.fromarray(originals.pixels(job.record, item.data))
    except DecodeError as error:
        return str(error)
    if pixels.size != (image.width, image.height):
        was, now = f"{image.width}x{image.height}", f"{pixels.width}x{pixels.height}"
        return f"it had {was} pixels in the run, and {now} now"
    files = []
    for name, picture in kind.files(item, pixels, job):
        if max(picture.size) > LONGEST:
            return f"a JPEG has at most {LONGEST:,} pixels on a side"
        files.append((name, _jpeg(picture)))
    return files


def _spans(item: Item, padding: float) -> list[tuple[int, int, int, int]]:
    """Whole pixels that a box touches, with a share of its size on each side; xyxy."""
    image = item.image
    size = image.xyxy[:, 2:] - image.xyxy[:, :2]
    low = np.floor(image.xyxy[:, :2] - padding * size)
    high = np.maximum(np.ceil(image.xyxy[:, 2:] + padding * size), low + 1)
    limit = np.array([image.width, image.height])
    low, high = np.clip(low, 0, limit - 1), np.clip(high, 1, limit)
    return [tuple(span) for span in np.concatenate([low, high], axis=1).astype(int).tolist()]


class Pictures(Pixels):
    """Every image with its boxes drawn: category and score on each, a colour for each category."""

    how: ClassVar[str] = "look at them in {to}"

    @staticmethod
    def files(item: Item, pixels: Pillow.Image, job: Job) -> Iterator[tuple[str, Pillow.Image]]:
        image, draw = item.image, ImageDraw.Draw(pixels)
        line = max(2, round(max(pixels.size) / 400))
        font = ImageFont.load_default(max(11, round(max(pixels.size) / 60)))
        # the highest score on top
        for i in range(len(image.scores) - 1, -1, -1):
            place = int(image.classes[i])
            colour = COLOURS[place % len(COLOURS)]
            left, top, right, bottom = image.xyxy[i].tolist()
            draw.rectangle((left, top, right, bottom), outline=colour, width=line)
            words = f"{printable(job.classes.names[place], NAME)} {image.scores[i]:.2f}"
            box = draw.textbbox((0, 0), words, font=font)
            tall, long = box[3] + line, box[2] + 2 * line
            x = max(0, min(left, pixels.width - long))
            y = top - tall if top >= tall else top
            draw.rectangle((x, y, x + long, y + tall), fill=colour)
            draw.text((x + line, y), words, fill="black", font=font)
        yield item.name, pixels


class Crops(Pixels):
    """A file for each box, in a folder for each category; `--padding` adds what is around it."""

    how: ClassVar[str] = "a folder for each category: {to}/CATEGORY"

    @staticmethod
    def files(item: Item, pixels: Pillow.Image, job: Job) -> Iterator[tuple[str, Pillow.Image]]:
        stem, suffix = os.path.splitext(item.name)
        spans = _spans(item, job.options.padding)
        for number, (place, span) in enumerate(zip(item.image.classes, spans, strict=True)):
            folder = safe_part(job.classes.names[int(place)])
            yield f"{folder}/{stem}-{number:03d}{suffix}", pixels.crop(span)


class Blurred(Pixels):
    """Every image with what is in its boxes made unrecognisable, for privacy.

    A box is brought down to a few pixels and up again, so nothing can be computed back.
    """

    how: ClassVar[str] = "the images without what was in the boxes: {to}"

    @staticmethod
    def files(item: Item, pixels: Pillow.Image, job: Job) -> Iterator[tuple[str, Pillow.Image]]:
        for left, top, right, bottom in _spans(item, job.options.padding):
            width, height = right - left, bottom - top
            share = min(1.0, BLURRED / max(width, height))
            few = (max(1, round(width * share)), max(1, round(height * share)))
            part = pixels.crop((left, top, right, bottom)).resize(few, Pillow.Resampling.BOX)
            pixels.paste(part.resize((width, height), Pillow.Resampling.BILINEAR), (left, top))
        yield item.name, pixels


def _jpeg(picture: Pillow.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()
