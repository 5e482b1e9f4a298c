"""Overviews of a TIFF larger than memory: smaller pictures of all of it in the same file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pipeline.images.depth import Samples
from pipeline.images.errors import DecodeError
from pipeline.images.tiff import (
    BITS_PER_SAMPLE,
    REDUCED,
    SAMPLES,
    SUB_DIRECTORIES,
    SUBFILE,
    number,
    numbers,
)
from pipeline.images.tiff_header import HeaderFile, ReadRange, read_tags, stored_image
from pipeline.images.tiff_plan import check
from pipeline.images.tiff_regions import Region, StoredImage

DESCRIPTION = 270
# levels of a pyramid, labels and thumbnails; of a file of many pages no more are looked at
MOST_DIRECTORIES = 64

# place of a directory in the file, and the image that it is of
Overview = tuple[int, StoredImage]
# of a height and a width in pixels, whether the network takes an image of them unenlarged
Suits = Callable[[int, int], bool]


def read_overviews(read: ReadRange, image: StoredImage) -> Iterator[Overview]:
    """The overviews of the first image of a TIFF, one at a time, since a directory may be large.

    These are the reduced images of Cloud-optimised GeoTIFF, of pyramids and of OME-TIFF, and the
    levels of SVS, which are tiled other than its label and macro picture. Only what has the shape
    of the image counts. Behind a damaged directory no more is looked for.

    Raises:
        Exception: whatever `read` raises.
    """
    for directory, tags in _directories(HeaderFile(read)):
        with contextlib.suppress(DecodeError):  # it is no image that could be read
            stored = stored_image(tags)
            if _is_overview(stored, image):
                yield directory, stored


def chosen(
    overviews: Iterable[Overview],
    max_pixels: int,
    max_bytes: int,
    samples: Samples,
    suits: Suits,
) -> tuple[Region, StoredImage] | None:
    """The smallest overview that can be read and that suits the network, and all of it as a region.

    Args:
        overviews: in any order.
        max_pixels, max_bytes: that one may have; bytes as they are stored.
        samples: what they shall become.
        suits: see `Suits`.
    """
    found: tuple[Region, StoredImage] | None = None
    for directory, stored in overviews:
        width, height = stored.width, stored.height
        if found and width >= found[1].width:
            continue
        if width * height > max_pixels or stored.sizes.sum() > max_bytes:
            continue
        if not suits(height, width):
            continue
        region = Region(0, 0, width, height, directory)
        with contextlib.suppress(DecodeError):
            check(stored, region, max_pixels, samples)
            found = region, stored
    return found


def _directories(file: HeaderFile) -> Iterator[tuple[int, ImageFileDirectory_v2]]:
    """All but the first one: those below it, then those that follow it."""
    with contextlib.suppress(DecodeError):
        first = read_tags(file)
        below = numbers(first, SUB_DIRECTORIES)[:MOST_DIRECTORIES]
        for place in below:
            file.blocks.clear()
            yield place, read_tags(file, place)
        place, seen = first.next, set(below)
        while place and place not in seen and len(seen) < MOST_DIRECTORIES:
            seen.add(place)
            file.blocks.clear()
            tags = read_tags(file, place)
            yield place, tags
            place = tags.next


def _is_overview(found: StoredImage, image: StoredImage) -> bool:
    """Whether it is a smaller picture of all of the image."""
    if found.width >= image.width or found.height >= image.height:
        return False
    # either side may be a pixel longer or shorter than its share
    if abs(found.width * image.height - found.height * image.width) > image.width + image.height:
        return False
    if found.orientation != image.orientation:
        return False
    if any(numbers(found.tags, t) != numbers(image.tags, t) for t in (BITS_PER_SAMPLE, SAMPLES)):
        return False
    if str(image.tags.get(DESCRIPTION, "")).startswith("Aperio"):
        return found.is_tiled
    return number(found.tags, SUBFILE, 0) in REDUCED
