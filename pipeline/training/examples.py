"""Annotations to what a network is trained on, and what it is measured on."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline import words
from pipeline.config import VIDEO_EXTENSIONS, Config
from pipeline.errors import UsageError
from pipeline.inputs.containers import archives
from pipeline.inputs.listing import extension_of
from pipeline.inputs.references import absolute
from pipeline.inputs.sources import open_source
from pipeline.inputs.tables import GROUPED
from pipeline.labels.progress import progress
from pipeline.labels.truth import Truth, told
from pipeline.store import urls
from pipeline.training import pixels

log = logging.getLogger(__name__)
NAMED = 3
# whose members' URIs are CONTAINER#MEMBER
CONTAINERS = {*archives.KINDS, *GROUPED, *VIDEO_EXTENSIONS}
LEAST_SIDE = 1.0  # pixels; of less, nothing is left once the network has resized the image
OUTSIDE, SMALL, CROWD = "outside of their image", "smaller than a pixel", "of crowds"


@dataclass(frozen=True)
class Example:
    """An image that is trained on.

    Attributes:
        uri: of the image.
        xyxy: [n, 4] float32, pixels of the upright image, each of at least `LEAST_SIDE`.
        categories: [n] int64, ids of the truth.
    """

    uri: str
    xyxy: np.ndarray
    categories: np.ndarray


@dataclass
class Found:
    """What of annotations can be used.

    Attributes:
        truth: of those images that can be read.
        uris: of each image of `truth`.
        examples: of the same images, without those of which no box can be used.
        left_out: number of boxes by the reason.
        notes: what is not as one would expect, a line each.
    """

    truth: Truth
    uris: list[str]
    examples: list[Example] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def locate(truth: Truth, config: Config, listed: bool) -> list[str | None]:
    """URI of each image of the truth, None where there is none.

    Args:
        truth: the annotations.
        config: `input` is what the images are in, or the folder that relative names start from.
        listed: whether it is the first of these: then images are found by their names, as
            `jobs.evaluate` finds them.

    Raises:
        UsageError: no image is found, two are called the same, or one is in a container.
    """
    if listed:
        return _listed(truth, config)
    named = [absolute(name, config.input) if name else None for name in truth.names]
    for uri in filter(None, named):
        container, found, _ = uri.rpartition("#")
        if found and extension_of(container) in CONTAINERS:
            raise _is_member(uri)
    return named


def _listed(truth: Truth, config: Config) -> list[str | None]:
    whole: list[str | None] = [None] * len(truth.ids)
    by_end: list[str | None] = [None] * len(truth.ids)
    example = ""
    for table in open_source(config).read():
        if "source_uri" in table.column_names and (inside := table["source_uri"].drop_null()):
            raise _is_member(inside[0].as_py())
        for uri in table.column(0).to_pylist():
            example = example or uri
            if (found := truth.place(uri)) is None:
                continue
            known = whole if found[1] else by_end
            if (other := known[found[0]]) not in (None, uri):
                pair = " and ".join(words.printable(u, 200) for u in (other, uri))
                raise UsageError(
                    f"{pair} are both called as {words.printable(truth.names[found[0]], 200)} of "
                    f"{truth.url}; give the folder of one of them as --images"
                )
            known[found[0]] = uri
    uris = whole if any(whole) else by_end
    if not any(uris):
        there = words.printable(truth.names[0], 200)
        here = f"here {words.printable(example, 200)!r}" if example else "and here is none"
        raise UsageError(
            f"no image of {truth.url} is in {urls.public(config.input)}: there, images are called "
            f"{there!r}, {here}; give their folder as --images"
        )
    return uris


def _is_member(uri: str) -> UsageError:
    return UsageError(
        f"{words.printable(uri, 200)}: a training reads image files alone, none within archives, "
        "tables or videos; write them to files of their own, and give their folder as --images"
    )


def split(truth: Truth, share: float) -> tuple[Truth, Truth]:
    """The images that are trained on, and those that are held out.

    By a hash of the file name without folders, so that an image stays on its side while others
    come and go from one round of annotating to the next.
    """
    held = np.array([_fraction(name) < share for name in truth.names])
    return truth.of(np.flatnonzero(~held)), truth.of(np.flatnonzero(held))


def _fraction(name: str) -> float:
    base = urls.public(name).replace("\\", "/").rpartition("/")[2]
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
    uris = locate(truth, config, listed)
    there = [place for place, uri in enumerate(uris) if uri is not None]
    unread = {truth.names[p] or str(truth.ids[p]): "not found" for p, u in enumerate(uris) if not u}
    sizes: dict[int, tuple[int, int]] = {}
    with progress("reading", len(there)) as bar:
        read = pixels.read_many(config, (str(uris[place]) for place in there))
        for place, image in zip(there, read, strict=True):
            bar.update()
            if isinstance(image, str):
                unread[str(uris[place])] = image
            elif shrinks_to(*image.shape[:2]) < 1:
                unread[str(uris[place])] = "so thin that the network would see nothing of it"
            else:
                sizes[place] = image.shape[:2]
    if not sizes:
        name, why = next(iter(unread.items()), ("", "there is none"))
        raise UsageError(
            f"no image of {truth.url} can be read, such as {words.printable(name, 200)}: {why}; "
            "give their folder as --images"
        )
    places = sorted(sizes)
    found = Found(truth.of(np.array(places)), [str(uris[place]) for place in places])
    if unread:
        shown = [f"{words.printable(name, 200)}: {why}" for name, why in unread.items()][:NAMED]
        count = words.count(len(unread), "image")
        found.notes.append(f"{count} cannot be read, left out: {'; '.join(shown)}")
    _fill(found, [sizes[place] for place in places])
    return found


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
        found.examples.append(Example(found.uris[place], boxes, truth.box_categories[mine][good]))
    found.left_out = +found.left_out
    _check(found, clipped)
    if emptied:
        count = words.count(emptied, "image")
        found.notes.append(f"{count} without a box that can be used, not trained on")


def _check(found: Found, clipped: int) -> None:
    kept = sum(len(example.categories) for example in found.examples)
    if found.left_out[OUTSIDE] > kept:
        raise UsageError(
            f"{found.left_out[OUTSIDE]:,} boxes of {found.truth.url} lie outside of their images, "
            f"and {kept:,} inside: give the images that they were drawn on, upright and in that "
            "size, as --images"
        )
    if found.left_out:
        count = words.count(found.left_out.total(), "box")
        found.notes.append(f"{count} left out: {told(found.left_out)}")
    if clipped:
        found.notes.append(f"{words.count(clipped, 'box')} cut off at the edge of their image")


def shrinking(options: dict[str, object], least: float = 1.0) -> Callable[[int, int], float]:
    """(height, width) to the pixels of the shorter side in the network.

    Args:
        options: keywords of `FasterRCNN`.
        least: smallest factor by which training changes the scale.
    """
    short, long = (
        float(str(options.get(k, d))) for k, d in (("min_size", 800), ("max_size", 1333))
    )

    def shrinks_to(height: int, width: int) -> float:
        if "fixed_size" in options:
            return short
        scale = min(least * short / min(height, width), long / max(height, width))
        return math.floor(min(height, width) * scale)

    return shrinks_to
