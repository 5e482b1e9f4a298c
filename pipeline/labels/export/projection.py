"""Boxes as polygons in longitude and latitude, by PROJ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import UsageError
from pipeline.images.georeference import Georeference, GeoreferenceError

if TYPE_CHECKING:
    from pyproj import CRS, Transformer

MISSING = "boxes in map coordinates need pyproj: pip install '.[geo]' in the clone"
# Points of an edge of a box, its first corner among them. From one to the next a longitude is
# followed by the shorter way, so that a jump of it at the antimeridian shows as none.
EDGE = 4
# left, top, right, bottom as corners, from the upper left one against the clock
CORNERS = [0, 1, 0, 3, 2, 3, 2, 1]
# EPSG has two codes for the degree
DEGREES = {"9122": "9102"}

# closed rings [k, 2] of longitude and latitude, against the clock; two where the antimeridian cuts
Polygons = list[np.ndarray]


class Projection:
    """From pixels to WGS 84.

    Attributes:
        images: number of those with boxes, by CRS.
        accuracy: by CRS, the worst that PROJ says of the last box of each of them, in metres; None
            where it does not know.
    """

    def __init__(self) -> None:
        """
        Raises:
            UsageError: pyproj is not installed.
        """
        try:
            from pyproj import network
        except ImportError as error:
            raise UsageError(MISSING) from error
        # what a file's places are may not depend on whether a server was there
        network.set_network_enabled(False)  # type: ignore[attr-defined]
        self.transformers: dict[tuple[int, int | None], Transformer | str] = {}
        self.accuracy: dict[str, float | None] = {}
        self.images: dict[str, int] = {}

    def polygons(self, xyxy: np.ndarray, where: Georeference) -> list[Polygons]:
        """Each box's polygon, in degrees of WGS 84; none for a box that has no place there.

        That is a box around a pole, one outside of what its CRS can say, or one wider than the
        earth. Corners are brought over, and the edges between are straight again (RFC 7946).

        Args:
            xyxy: [n, 4] pixels of the image.
            where: that of the image.

        Raises:
            GeoreferenceError: PROJ does not know its CRS, or no way to WGS 84.
        """
        transformer = self._transformer(where)
        if not len(xyxy):
            return []
        corners = xyxy.astype(np.float64)[:, CORNERS].reshape(-1, 4, 2)
        edges = np.roll(corners, -1, axis=1) - corners
        shares = np.arange(EDGE)[:, None] / EDGE
        points = (corners[:, :, None] + edges[:, :, None] * shares).reshape(-1, 4 * EDGE, 2)
        places = points @ where.affine[:, :2].T + where.affine[:, 2]
        longitudes, latitudes = transformer.transform(places[..., 0], places[..., 1])
        self._note(transformer, f"EPSG:{where.epsg}")
        lies = np.isfinite(longitudes).all(1) & (np.abs(latitudes) <= 90).all(1)
        longitudes = np.where(lies[:, None], longitudes, 0)
        longitudes, has_pole = _continued(longitudes)
        rings = np.stack([longitudes, latitudes], axis=2)[:, ::EDGE]
        lies &= ~has_pole & (np.ptp(rings[:, :, 0], axis=1) < 360)
        pairs = zip(rings, lies, strict=True)
        return [_polygons(ring) if is_there else [] for ring, is_there in pairs]

    def record(self) -> dict[str, dict[str, Any]]:
        """Of each CRS the images with boxes and the accuracy, the most frequent one first."""
        ranked = sorted(self.images.items(), key=lambda pair: -pair[1])
        return {
            crs: {"images": count, "accuracy_metres": self.accuracy[crs]} for crs, count in ranked
        }

    def _transformer(self, where: Georeference) -> Transformer:
        key = where.epsg, where.unit
        if key not in self.transformers:
            try:
                self.transformers[key] = _made(where)
            except GeoreferenceError as error:
                self.transformers[key] = str(error)
        found = self.transformers[key]
        if isinstance(found, str):
            raise GeoreferenceError(found)
        return found

    def _note(self, transformer: Transformer, crs: str) -> None:
        from pyproj.exceptions import ProjError

        self.images[crs] = self.images.get(crs, 0) + 1
        try:  # which one of several it was, the place decided
            metres = transformer.get_last_used_operation().accuracy
        except ProjError:  # there is nothing to be done
            metres = transformer.accuracy
        worst = self.accuracy.get(crs, 0.0)
        self.accuracy[crs] = None if metres < 0 or worst is None else max(worst, metres)


def _made(where: Georeference) -> Transformer:
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    name = f"EPSG:{where.epsg}"
    try:
        crs = _crs(where.epsg)
        if not (crs.is_projected or crs.is_geographic):
            raise GeoreferenceError(f"{name} is neither a projected nor a geographic CRS")
        given, unit = str(where.unit), crs.axis_info[0].unit_code
        if where.unit and DEGREES.get(given, given) != DEGREES.get(unit, unit):
            raise GeoreferenceError(f"its unit (EPSG:{where.unit}) is not that of {name}")
        # a ballpark transformation leaves out that datums differ, by up to hundreds of metres
        return Transformer.from_crs(crs, "OGC:CRS84", always_xy=True, allow_ballpark=False)
    except ProjError as error:
        raise GeoreferenceError(f"PROJ has no transformation from {name} to WGS 84") from error


def _crs(code: int) -> CRS:
    """What a code of EPSG means; of a withdrawn one, as in GDAL, that is its successor.

    A definition is withdrawn because it is wrong, by up to thousands of kilometres.
    """
    from pyproj import CRS

    crs = CRS.from_epsg(code)
    if not crs.is_deprecated:
        return crs
    # what PROJ hands out here does not say whether it is withdrawn itself
    match [found.to_epsg() for found in crs.get_non_deprecated()]:
        case [int(other)] if not (successor := CRS.from_epsg(other)).is_deprecated:
            return successor
    raise GeoreferenceError(f"EPSG has withdrawn the code {code} without a replacement")


def _continued(longitudes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rings without a jump of 360 degrees, the westmost point in -180 to 180.

    Args:
        longitudes: [n, k] of the points of n rings.

    Returns:
        [n, k] the same places, and [n] bool, whether a ring goes around a pole.
    """
    steps = np.diff(longitudes, axis=1, append=longitudes[:, :1])
    steps -= 360 * np.round(steps / 360)
    followed = longitudes[:, :1] + np.cumsum(steps, axis=1) - steps
    turns = np.round((followed - longitudes) / 360)
    turns -= np.floor(((longitudes + 360 * turns).min(1, keepdims=True) + 180) / 360)
    return longitudes + 360 * turns, np.abs(steps.sum(1)) > 180


def _polygons(ring: np.ndarray) -> Polygons:
    """What stands on each side of the antimeridian (RFC 7946, section 3.1.9).

    Args:
        ring: [4, 2] longitude and latitude, as `_continued` has them.
    """
    x, y = (ring - ring[0]).T  # of a box of centimetres the area would be lost in rounding
    if x @ np.roll(y, -1) < y @ np.roll(x, -1):  # the map is mirrored
        ring = ring[[0, 3, 2, 1]]
    if ring[:, 0].max() <= 180:
        return [np.vstack([ring, ring[:1]])]
    return [_side(ring, -1), _side(ring, 1) - (360, 0)]


def _side(ring: np.ndarray, sign: int) -> np.ndarray:
    """The part of a ring to the west (-1) or the east (1) of 180 degrees, closed.

    By Sutherland and Hodgman (1974), which is right for what is convex.
    """
    kept: list[np.ndarray] = []
    for here, there in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        beyond, after = here[0] - 180, there[0] - 180
        if sign * beyond >= 0:
            kept.append(here)
        if beyond * after < 0:
            share = beyond / (beyond - after)
            kept.append(np.array([180.0, here[1] + share * (there[1] - here[1])]))
    return np.vstack([*kept, kept[0]])
