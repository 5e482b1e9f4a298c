"""Where the pixels of a GeoTIFF lie in a coordinate reference system, by its tags alone.

OGC GeoTIFF 1.1 (OGC 19-008r4); where that leaves a choice, it is GDAL's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pipeline.images.tiff import ORIENTATION, number, numbers

PIXEL_SCALE, TIEPOINTS, TRANSFORMATION, KEYS = 33550, 33922, 34264, 34735
MODEL_TYPE, RASTER_TYPE = 1024, 1025
PROJECTED, GEOGRAPHIC = 1, 2
# by model type: the key of the CRS, and that of its unit
CRS_KEYS = {PROJECTED: 3072, GEOGRAPHIC: 2048}
UNIT_KEYS = {PROJECTED: 3076, GEOGRAPHIC: 2054}
PIXEL_IS_POINT = 2
USER_DEFINED = 32767
EPSG_CODES = range(1024, USER_DEFINED)


class GeoreferenceError(Exception):
    """A georeference that cannot be used; the message says why."""


@dataclass(frozen=True)
class Georeference:
    """
    Attributes:
        affine: [2, 3] float64; times (x, y, 1) it gives the easting and northing, or longitude and
            latitude, in the unit of the CRS. (x, y) is a place in the image in pixels, to the right
            and down from the outer corner of the first pixel.
        epsg: code of the CRS.
        unit: EPSG code of the unit that the file names; None if it names none.
    """

    affine: np.ndarray
    epsg: int
    unit: int | None


def georeference(tags: ImageFileDirectory_v2) -> Georeference | None:
    """That of an image of a TIFF; None if it has none.

    Args:
        tags: its directory.

    Raises:
        GeoreferenceError: it has one that cannot be used.
    """
    if not any(tag in tags for tag in (PIXEL_SCALE, TIEPOINTS, TRANSFORMATION, KEYS)):
        return None
    if number(tags, ORIENTATION, 1) in range(2, 9):  # GDAL leaves such images lying
        raise GeoreferenceError(
            "its orientation tag turns it, and readers disagree on whether its coordinates are "
            "those of the turned image"
        )
    keys = _keys(tags)
    model = keys.get(MODEL_TYPE) or (PROJECTED if CRS_KEYS[PROJECTED] in keys else GEOGRAPHIC)
    if model not in CRS_KEYS:
        raise GeoreferenceError(
            f"its coordinates are of model type {model}, neither projected nor geographic"
        )
    code = keys.get(CRS_KEYS[model], 0)
    if code == USER_DEFINED:
        raise GeoreferenceError("its CRS is defined by the file itself, without an EPSG code")
    if code not in EPSG_CODES:
        raise GeoreferenceError(f"it has no EPSG code of a CRS ({code} is none)")
    affine = _affine(tags)
    if keys.get(RASTER_TYPE) == PIXEL_IS_POINT:  # its places are of the middles of pixels
        affine[:, 2] -= affine[:, :2].sum(1) / 2
    return Georeference(affine, code, keys.get(UNIT_KEYS[model]) or None)


def _keys(tags: ImageFileDirectory_v2) -> dict[int, int]:
    """The keys whose value stands in the directory of keys itself."""
    entries = numbers(tags, KEYS)[4:]
    rows = zip(*(entries[place::4] for place in range(4)), strict=False)
    return {key: value for key, elsewhere, _, value in rows if not elsewhere}


def _affine(tags: ImageFileDirectory_v2) -> np.ndarray:
    """[2, 3] float64, from what the raster type says that places are of."""
    scale, tiepoints = _floats(tags, PIXEL_SCALE), _floats(tags, TIEPOINTS)
    matrix = _floats(tags, TRANSFORMATION)
    if len(scale) >= 2 and len(tiepoints) >= 6:
        affine = _of_scale(scale, tiepoints[: len(tiepoints) // 6 * 6].reshape(-1, 6))
    elif len(matrix) >= 16:
        affine = matrix[[0, 1, 3, 4, 5, 7]].reshape(2, 3)
    elif len(tiepoints) > 6:
        raise GeoreferenceError(
            "it has only ground control points; rectify it, for example with gdalwarp"
        )
    else:
        raise GeoreferenceError("it does not say where its pixels lie")
    if not np.isfinite(affine).all() or np.linalg.det(affine[:, :2]) == 0:
        raise GeoreferenceError("its transformation is not finite or cannot be inverted")
    return affine


def _of_scale(scale: np.ndarray, tiepoints: np.ndarray) -> np.ndarray:
    """Of the size of a pixel, and places in the image with their places on the map."""
    width, height = scale[:2].tolist()
    if not (width > 0 and height > 0):
        raise GeoreferenceError(
            f"its pixel size is {width:g} by {height:g}, and both must be above 0"
        )
    (x, y), (east, north) = tiepoints[0, :2], tiepoints[0, 3:5]
    affine = np.array([[width, 0, east - x * width], [0, -height, north + y * height]])
    ones = np.ones((len(tiepoints), 1))
    apart = np.hstack([tiepoints[:, :2], ones]) @ affine.T - tiepoints[:, 3:5]
    if not (np.abs(apart) <= scale[:2] / 2).all():
        raise GeoreferenceError("its tiepoints do not agree with its pixel size")
    return affine


def _floats(tags: ImageFileDirectory_v2, tag: int) -> np.ndarray:
    try:
        return np.atleast_1d(np.array(tags.get(tag, ()), np.float64))
    except (TypeError, ValueError) as error:  # a hostile file has values of any type
        raise GeoreferenceError(f"tag {tag} does not hold numbers") from error
