"""Polygons where longitudes jump, and boxes that have none."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import CRS
from rasterio import warp

from pipeline.images.georeference import Georeference, GeoreferenceError
from pipeline.labels.export.projection import Polygons, Projection

WEB, POLAR, PLAIN = 3857, 3031, 4326
HALF = 20037508.342789244  # of the equator, in metres of Web Mercator


def polygons(epsg: int, west: float, south: float, east: float, north: float) -> Polygons:
    """Of one box, whose corners are given in the CRS."""
    affine = np.array([[1.0, 0, west], [0, -1, north]])
    box = np.array([[0, 0, east - west, north - south]], np.float64)
    (found,) = Projection().polygons(box, Georeference(affine, epsg, None))
    return found


def extents(found: Polygons) -> list[list[float]]:
    for ring in found:
        x, y = ring[:-1].T
        assert x @ np.roll(y, -1) - y @ np.roll(x, -1) > 0 and (ring[0] == ring[-1]).all()
    return [[*ring.min(0).tolist(), *ring.max(0).tolist()] for ring in found]


@pytest.mark.parametrize(
    "box,expected",
    [
        ((10, 40, 12, 41), [[10, 40, 12, 41]]),
        ((179, -10, 182, -9), [[179, -10, 180, -9], [-180, -10, -178, -9]]),
        ((-181, 1, -179, 2), [[179, 1, 180, 2], [-180, 1, -179, 2]]),
        ((200, 40, 210, 41), [[-160, 40, -150, 41]]),
        ((179, 1, 180, 2), [[179, 1, 180, 2]]),
        ((180, 1, 181, 2), [[-180, 1, -179, 2]]),
        ((-170, -50, 170, 50), [[-170, -50, 170, 50]]),
        ((-180, -90, 179, 90), [[-180, -90, 179, 90]]),
        ((10, 80, 12, 91), []),
        ((-10, 0, 390, 10), []),
    ],
)
def test_degrees(box: tuple[float, ...], expected: list[list[float]]) -> None:
    assert extents(polygons(PLAIN, *box)) == expected


@pytest.mark.parametrize(
    "west,east,expected",
    [
        (HALF - 111319.49079327358, HALF + 222638.98158654716, [(179, 180), (-180, -178)]),
        (-HALF + 111319.49079327358, HALF - 111319.49079327358, [(-179, 179)]),
    ],
    ids=["antimeridian", "nearly the whole earth"],
)
def test_web_mercator(west: float, east: float, expected: list[tuple[float, float]]) -> None:
    found = extents(polygons(WEB, west, 0, east, 1e6))
    assert [(ring[0], ring[2]) for ring in found] == [pytest.approx(pair) for pair in expected]


def test_centimetres_far_from_the_origin() -> None:
    """Rings stay against the clock."""
    affine = np.array([[0.005, 0, 1750000], [0, -0.005, 5425000]])
    corners = np.random.default_rng(0).uniform(0, 20000, (500, 2))
    boxes = np.concatenate([corners, corners + 10], 1)
    for (ring,) in Projection().polygons(boxes, Georeference(affine, 2193, None)):
        x, y = (ring[:-1] - ring[0]).T
        assert x @ np.roll(y, -1) - y @ np.roll(x, -1) > 0


def test_around_a_pole() -> None:
    assert polygons(POLAR, -1e5, -2e5, 3e5, 1e5) == []
    assert len(polygons(POLAR, 1e5, -2e5, 3e5, 1e5)) == 1
    assert len(polygons(POLAR, -1e5, -3e5, 1e5, -2e5)) == 2


def test_a_turned_box_at_the_antimeridian() -> None:
    """What stands on both sides is the box: its area is that of both."""
    affine = np.array([[2.0, 1.0, 178.0], [0.5, -3.0, 10.0]])
    box = np.array([[0, 0, 1, 1]], np.float64)
    (found,) = Projection().polygons(box, Georeference(affine, PLAIN, None))
    areas = [abs(np.linalg.det(np.stack([b - a, c - a]))) / 2 for a, b, c in triangles(found)]
    assert len(found) == 2 and sum(areas) == pytest.approx(6.5)
    assert found[0][:, 0].max() == 180 and found[1][:, 0].min() == -180


def triangles(found: Polygons) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [(r[0], r[k], r[k + 1]) for r in found for k in range(1, len(r) - 2)]


def test_no_way_to_wgs_84() -> None:
    """A height; no CRS; one of a datum with no known way, which is not taken for WGS 84's."""
    reasons = {
        5703: "neither a projected nor a geographic CRS",
        1999: "no transformation from EPSG:1999",
        3821: "no transformation from EPSG:3821",
    }
    for code, why in reasons.items():
        where = Georeference(np.array([[1.0, 0, 0], [0, -1, 0]]), code, None)
        for _ in range(2):
            with pytest.raises(GeoreferenceError, match=why):
                Projection().polygons(np.zeros((1, 4)), where)


@pytest.mark.parametrize("code", [3842, 3356, 26834])
def test_a_withdrawn_code_is_its_successor(code: int) -> None:
    """By whose own definition it would be elsewhere, as seen by GDAL."""
    area = CRS.from_epsg(code).area_of_use
    assert area
    place = (area.west + area.east) / 2, (area.south + area.north) / 2
    (x,), (y,) = warp.transform("EPSG:4326", f"EPSG:{code}", *([degrees] for degrees in place))
    (ring,) = polygons(code, x, y - 1, x + 1, y)
    assert ring[0] == pytest.approx(place, abs=1e-5)


@pytest.mark.parametrize("code", [3103, 3315, 31268, 2493])
def test_a_withdrawn_code_without_one_in_its_place(code: int) -> None:
    """There are several, four, one that is withdrawn itself, none."""
    with pytest.raises(GeoreferenceError, match=f"EPSG has withdrawn the code {code} without"):
        polygons(code, 500000, 0, 500001, 1)
