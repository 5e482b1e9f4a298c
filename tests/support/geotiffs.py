"""GeoTIFFs by tifffile, with any tags, and what GDAL makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
from rasterio.warp import transform

SCALE, TIEPOINTS, MATRIX, KEYS, ORIENTATION = 33550, 33922, 34264, 34735, 274
SHORT, DOUBLE = "H", "d"
# what readers of GeoJSON take for granted
CRS84 = "OGC:CRS84"

Tags = dict[int, Sequence[float]]


def keys(**values: int) -> list[int]:
    """A directory of keys: `crs` of `model` 1 (projected) or 2 (geographic), raster type, unit."""
    model = values.get("model", 1)
    numbers = {
        1024: model,
        1025: values.get("raster", 1),
        2048 if model == 2 else 3072: values.get("crs"),
        2054 if model == 2 else 3076: values.get("unit"),
    }
    entries = [(key, 0, 1, value) for key, value in sorted(numbers.items()) if value is not None]
    return [1, 1, 0, len(entries), *(number for entry in entries for number in entry)]


def placed(scale: tuple[float, float], *tiepoints: tuple[float, ...], **values: int) -> Tags:
    """Tags of an image by the size of a pixel, and i, j, x, y of tiepoints."""
    flat = [number for i, j, x, y in tiepoints for number in (i, j, 0, x, y, 0)]
    return {SCALE: (*scale, 0), TIEPOINTS: flat, KEYS: keys(**values)}


def turned(a: float, b: float, x: float, d: float, e: float, y: float, **values: int) -> Tags:
    """Tags of an image by a matrix: x + a i + b j, y + d i + e j."""
    return {MATRIX: (a, b, 0, x, d, e, 0, y, *[0] * 7, 1), KEYS: keys(**values)}


def extratags(tags: Tags) -> list[tuple[int, str, int, tuple[float, ...], bool]]:
    """Tags as tifffile takes them."""
    kinds = {tag: SHORT if tag in (KEYS, ORIENTATION) else DOUBLE for tag in tags}
    return [(tag, kinds[tag], len(v), tuple(v), True) for tag, v in tags.items()]


def write(path: Path, tags: Tags, size: tuple[int, int] = (60, 40), **options: Any) -> None:
    """A black image of that width and height."""
    black = np.zeros(size[::-1], np.uint8)
    tifffile.imwrite(path, black, extratags=extratags(tags), metadata=None, **options)


def corners(path: str, xyxy: Sequence[float]) -> np.ndarray:
    """[4, 2] longitude and latitude of a box in pixels, by GDAL and its PROJ: upper left, lower
    left, lower right, upper right.
    """
    left, top, right, bottom = xyxy
    with rasterio.open(path) as opened:
        affine, crs = np.array(opened.transform)[:6].reshape(2, 3), opened.crs
    pixels = [(left, top, 1), (left, bottom, 1), (right, bottom, 1), (right, top, 1)]
    return np.array(transform(crs, CRS84, *(affine @ np.transpose(pixels)))).T
