"""Images with the places of their boxes on the map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pipeline import words
from pipeline.errors import UsageError
from pipeline.images.georeference import GeoreferenceError, georeference
from pipeline.images.tiff import LENGTH, WIDTH, number
from pipeline.labels import boxes, originals
from pipeline.labels.export.projection import Projection
from pipeline.labels.export.target import Item, Job
from pipeline.labels.output import Output

NONE, UNUSABLE = "images_without_georeference", "images_of_unusable_georeference"


def items(
    run: Output, job: Job, projection: Projection, named: Iterator[tuple[boxes.Image, str]]
) -> Iterator[Item]:
    """The images that have a place on the map, of whose files the headers are read.

    Raises:
        UsageError: there are some, and none of them has a place that can be used.
    """
    listed = ((image.image_id, image.uri, (image, name)) for image, name in named)
    any_found = False
    for (image, name), tags in originals.read_tags(run, listed):
        if isinstance(tags, str):
            job.leave_out("images_unreadable", image, tags)
            continue
        try:
            item = _located(image, name, tags, job, projection)
        except GeoreferenceError as error:
            job.leave_out(UNUSABLE, image, str(error))
            continue
        if item:
            any_found = True
            yield item
    if not any_found and (lost := job.counts[NONE] + job.counts[UNUSABLE]):
        raise UsageError(
            f"none of {words.count(lost, 'image')} has a georeference that can be used: --format "
            f"{job.options.format} is for GeoTIFFs whose CRS has an EPSG code"
        )


def _located(
    image: boxes.Image,
    name: str,
    tags: ImageFileDirectory_v2 | None,
    job: Job,
    projection: Projection,
) -> Item | None:
    """
    Raises:
        GeoreferenceError: see `georeference` and `Projection.polygons`.
    """
    where = georeference(tags) if tags else None
    if tags is None or where is None:
        job.leave_out(NONE, image, "not a GeoTIFF" if tags else "not a TIFF")
        return None
    size = number(tags, WIDTH, 0), number(tags, LENGTH, 0)
    if size != (image.width, image.height):
        was = f"{image.width}x{image.height} pixels in the run"
        job.leave_out("images_unreadable", image, f"it had {was}, and has {size[0]}x{size[1]} now")
        return None
    polygons = projection.polygons(image.xyxy, where)
    lies = np.array([bool(rings) for rings in polygons], bool)
    job.counts["boxes_off_the_map"] += len(lies) - int(lies.sum())
    kept = {field: getattr(image, field)[lies] for field in ("classes", "scores", "xyxy")}
    return Item(replace(image, **kept), name, None, [rings for rings in polygons if rings])
