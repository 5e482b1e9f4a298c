"""Annotations to what a network is trained on, and what it is measured on."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline import words
from pipeline.config import VIDEO_EXTENSIONS, Config
from pipeline.errors import UsageError
from pipeline.labels.progress import progress
from pipeline.labels.sizes import Sizes
from pipeline.labels.truth import Truth, told
from pipeline.store import urls
from pipeline.training import pixels
from pipeline.training.copies import copied
from pipeline.training.images import locate
from pipeline.training.pixels import Image

log = logging.getLogger(__name__)
NAMED = 3
# behind the name of a video, in that of a frame: its time, or a file in a folder that is called as
# the video, which is how exports and CVAT have frames
FRAME = re.compile(
    rf"#t=[\d.]+$|(\.(?:{'|'.join(VIDEO_EXTENSIONS)}))/[^/]+$", re.IGNORECASE | re.ASCII
)
LEAST_SIDE = 1.0  # pixels; of less, nothing is left once the network has resized the image
OUTSIDE, SMALL, CROWD = "outside their image", "smaller than a pixel", "of crowds"


@dataclass(frozen=True)
class Example:
    """An image that is trained on.

    Attributes:
        image: where its pixels are.
        xyxy: [n, 4] float32, pixels of the upright image, each of at least `LEAST_SIDE`.
        categories: [n] int64, ids of the truth.
    """

    image: Image
    xyxy: np.ndarray
    categories: np.ndarray


@dataclass
class Found:
    """What of annotations can be used.

    Attributes:
        truth: of those images that can be read.
        images: each one of `truth`.
        examples: of the same images, without those of which no box can be used.
        left_out: number of boxes by the reason.
        notes: what is not as one would expect, a line each.
    """

    truth: Truth
    images: list[Image]
    examples: list[Example] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def split(truth: Truth, share: float) -> tuple[Truth, Truth]:
    """The images that are trained on, and those that are held out.

    By a hash of the file name without folders, so that an image stays on its side while others
    come and go from one round of annotating to the next. Of frames it is that of their video,
    whose neighbouring frames are all but the same image.
    """
    held = np.array([_fraction(name) < share for name in truth.names])
    return truth.of(np.flatnonzero(~held)), truth.of(np.flatnonzero(held))


def has_frames(truth: Truth) -> bool:
    """Whether some of the images are frames of videos, by their names."""
    return any(FRAME.search(_path(name)) for name in truth.names)


def _path(name: str) -> str:
    return urls.public(name).replace("\\", "/")


def _fraction(name: str) -> float:
    base = FRAME.sub(r"\1", _path(name)).rpartition("/")[2]
    digest = hashlib.sha256(base.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:7]) / 2**56


def find(
    truth: Truth, config: Config, listed: bool, shrinks_to: Callable[[int, int], float]
) -> Found:
    """Read every image once, and hold the boxes to its size.

    Args:
        truth: annotations of some images.
        config, listed: see `locate`.
        shrinks_to: pixels of the shorter side in the network, of a (height, width).

    Raises:
        UsageError: no image can be read, or most of the boxes are none of their images'.
    """
    located = locate(truth, config, listed)
    there = {place: x for place, x in enumerate(located) if isinstance(x, Image)}
    there = dict(zip(there, copied(config, list(there.values())), strict=True))
    unread = {
        truth.names[place] or str(truth.ids[place]): why
        for place, why in enumerate(located)
        if isinstance(why, str)
    }
    sizes: dict[int, tuple[int, int]] = {}
    others = Sizes(truth)
    for place, content in _contents(config, there):
        uri = there[place].uri
        if isinstance(content, str):
            unread[uri] = content
        elif shrinks_to(*content.shape[:2]) < 1:
            unread[uri] = "so thin that the network would see nothing of it"
        else:
            sizes[place] = height, width = content.shape[:2]
            others.look(place, uri, width, height)
    others.check()
    if not sizes:
        name, why = next(iter(unread.items()), ("", "there is none"))
        raise UsageError(
            f"no image of {truth.url} can be read, such as {words.printable(name, 200)}: {why}; "
            "give their folder as --images"
        )
    places = sorted(sizes)
    found = Found(truth.of(np.array(places)), [there[place] for place in places])
    if unread:
        found.notes.append(_told_unread(unread))
    _fill(found, [sizes[place] for place in places])
    return found


def _told_unread(unread: Mapping[str, str]) -> str:
    shown = [f"{words.printable(name, 200)}: {why}" for name, why in unread.items()][:NAMED]
    count = words.count(len(unread), "image")
    return f"{count} cannot be read, left out: {'; '.join(shown)}"


def _contents(
    config: Config, images: Mapping[int, Image]
) -> Iterator[tuple[int, np.ndarray | str]]:
    """As of `pixels.read_many`, each with the key of its image."""
    with progress("reading", len(images)) as bar:
        for place, content in zip(images, pixels.read_many(config, images.values()), strict=True):
            bar.update()
            yield place, content


def _fill(found: Found, sizes: Sequence[tuple[int, int]]) -> None:
    """The examples, of images of those (height, width)."""
    truth, emptied, clipped = found.truth, 0, 0
    order = np.argsort(truth.image_places, kind="stable")
    starts = np.searchsorted(truth.image_places[order], np.arange(len(sizes) + 1))
    for place, (height, width) in enumerate(sizes):
        mine = order[starts[place] : starts[place + 1]]
        xyxy = truth.xywh[mine].copy()
        xyxy[:, 2:] += xyxy[:, :2]
        inside = np.clip(xyxy, 0, [width, height, width, height])
        sides = (inside[:, 2:] - inside[:, :2]).min(1)
        whole = (xyxy[:, 2:] - xyxy[:, :2]).min(1)
        crowd = truth.crowds[mine]
        good = ~crowd & (sides >= LEAST_SIDE)
        found.left_out[CROWD] += int(crowd.sum())
        found.left_out[SMALL] += int((~crowd & (whole < LEAST_SIDE)).sum())
        found.left_out[OUTSIDE] += int((~crowd & ~good & (whole >= LEAST_SIDE)).sum())
        clipped += int((good & (np.abs(inside - xyxy).max(1, initial=0) >= LEAST_SIDE)).sum())
        if len(mine) and not good.any():
            emptied += 1  # something is there, so that it is no picture of nothing
            continue
        boxes = inside[good].astype(np.float32)
        found.examples.append(Example(found.images[place], boxes, truth.box_categories[mine][good]))
    found.left_out = +found.left_out
    _check(found, clipped)
    if emptied:
        count = words.count(emptied, "image")
        found.notes.append(f"{count} without a box that can be used, not trained on")


def _check(found: Found, clipped: int) -> None:
    kept = sum(len(example.categories) for example in found.examples)
    if found.left_out[OUTSIDE] > kept:
        raise UsageError(
            f"{found.left_out[OUTSIDE]:,} boxes of {found.truth.url} lie outside their images, "
            f"and only {kept:,} inside: give the images that they were drawn on, upright and in "
            "that size, as --images"
        )
    if found.left_out:
        count = words.count(found.left_out.total(), "box")
        found.notes.append(f"{count} left out: {told(found.left_out)}")
    if clipped:
        found.notes.append(f"{words.count(clipped, 'box')} cut off at the edge of their image")


def shrinking(options: Mapping[str, Any], least: float = 1.0) -> Callable[[int, int], float]:
    """(height, width) to the pixels of the shorter side in the network.

    Args:
        options: keywords of `FasterRCNN`.
        least: smallest factor by which training changes the scale.
    """
    short: float = options.get("min_size", 800)
    long: float = options.get("max_size", 1333)

    def shrinks_to(height: int, width: int) -> float:
        if "fixed_size" in options:
            return short
        scale = min(least * short / min(height, width), long / max(height, width))
        return math.floor(min(height, width) * scale)

    return shrinks_to
