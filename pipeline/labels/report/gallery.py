"""The pictures of a report: read again, made small, and never more than fits the file."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pipeline.errors import UsageError
from pipeline.images import decode
from pipeline.labels import originals
from pipeline.labels.output import Output
from pipeline.labels.progress import progress
from pipeline.labels.report.samples import Shown
from pipeline.labels.report.statistics import NEAR, Statistics

THUMBNAIL = 480  # pixels of the long side
QUALITY = 75
MOST_PICTURES = 1000


@dataclass(frozen=True)
class Picture:
    """A sample's picture as it is now.

    Attributes:
        sample: the image and its detections.
        width, height: pixels of the upright image, in which the detections are.
        data: of the thumbnail, base64 of WebP; empty where there is none.
        problem: why there is none, or why no boxes can be drawn on it.
    """

    sample: Shown
    width: int
    height: int
    data: str = ""
    problem: str = ""


def checked(pictures: int) -> int:
    """
    Raises:
        UsageError: no number of pictures for a gallery.
    """
    if not 0 <= pictures <= MOST_PICTURES:
        raise UsageError(f"--pictures must be within 0 and {MOST_PICTURES}, not {pictures}")
    return pictures


@dataclass(frozen=True)
class Gallery:
    """Pictures of one kind.

    Attributes:
        name: of the kind, a word.
        title: for people.
        note: how they were chosen.
        samples: best first.
    """

    name: str
    title: str
    note: str
    samples: Sequence[Shown]


def choose(found: Statistics) -> list[Gallery]:
    """Those that have samples; what a person should look at first comes first."""
    at = f"{found.threshold / 100:.2f}"
    galleries = [
        Gallery(
            "uncertain",
            "Least certain",
            f"Most boxes with a {found.measure} within {NEAR / 100:g} of {at}: look at these "
            "first.",
            found.uncertain.samples,
        ),
        Gallery("densest", "Densest", f"Most boxes at or over {at}.", found.densest.samples),
        Gallery(
            "random",
            "Random",
            "Drawn from all images that did not fail; the same ones each time.",
            found.random.samples,
        ),
        Gallery(
            "empty", "Empty", f"Nothing at or over {at}; drawn at random.", found.empty.samples
        ),
        Gallery("failed", "Failed", "From each kind of failure in turn.", _failed(found)),
    ]
    return [one for one in galleries if one.samples]


def _failed(found: Statistics) -> list[Shown]:
    kinds = sorted(found.failures.values(), key=lambda kind: -kind.images)
    columns = [kind.some.samples for kind in kinds]
    deepest = max(map(len, columns), default=0)
    mixed = [column[k] for k in range(deepest) for column in columns if k < len(column)]
    return mixed[: found.pictures]


def read(output: Output, galleries: Sequence[Gallery]) -> Iterator[tuple[Gallery, Picture]]:
    """The first picture of each gallery, then the second of each, and so on: whoever stops early
    has something of all. An image of several galleries comes once for each.
    """
    longest = max((len(gallery.samples) for gallery in galleries), default=0)
    wanted = [
        (gallery, gallery.samples[place])
        for place in range(longest)
        for gallery in galleries
        if place < len(gallery.samples)
    ]
    requests = ((s.image.image_id, s.image.uri, (gallery, s)) for gallery, s in wanted)
    with progress("pictures", len(wanted)) as bar:
        for (gallery, sample), data in originals.read_many(output, requests):
            yield gallery, picture(sample, data, output.record)
            bar.update()


def picture(sample: Shown, data: bytes | str, record: Mapping[str, Any]) -> Picture:
    """
    Args:
        sample: the image and its detections.
        data: its encoded bytes, or the reason why there are none.
        record: of the run, as which it is decoded.
    """
    image = sample.image
    if isinstance(data, str):
        problem = f"cannot be read now: {data}"
        return Picture(sample, image.width or 4, image.height or 3, problem=problem)
    try:
        pixels = Image.fromarray(originals.pixels(record, data))
    except decode.DecodeError as error:
        problem = f"cannot be decoded: {error}"
        return Picture(sample, image.width or 4, image.height or 3, problem=problem)
    problem = ""
    if image.width and (image.width, image.height) != pixels.size:
        problem = (
            f"has changed since the run: it was {image.width} × {image.height} pixels and is now "
            f"{pixels.width} × {pixels.height}, so its boxes are not drawn"
        )
    width, height = pixels.size
    pixels.thumbnail((THUMBNAIL, THUMBNAIL), reducing_gap=3)
    buffer = io.BytesIO()
    pixels.save(buffer, "WEBP", quality=QUALITY)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return Picture(sample, width, height, encoded, problem)
