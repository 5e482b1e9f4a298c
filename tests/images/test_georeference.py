"""Where the pixels of GeoTIFFs lie: the same as GDAL says, or a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from pipeline.images.georeference import Georeference, GeoreferenceError, georeference
from pipeline.images.tiff_header import read_directory
from tests.support import geotiffs
from tests.support.geotiffs import KEYS, MATRIX, ORIENTATION, TIEPOINTS, Tags, keys, placed, turned

POINT = (0, 0, 500_000, 5_000_000)
UTM = {"crs": 32633}


def found(path: Path) -> Georeference | None:
    data = path.read_bytes()
    tags = read_directory(lambda start, end: data[start:end])
    assert tags is not None
    return georeference(tags)


def random_tags(seed: int) -> list[Tags]:
    random = np.random.default_rng(seed)
    a, b, d, e = (random.normal(size=4) * 3).tolist()
    x, y, i, j = (random.random(4) * (9e5, 9e6, 60, 40)).tolist()
    raster = int(random.integers(1, 3))
    code = int(random.choice([*range(32601, 32661), *range(32701, 32761), 3857]))
    scale = (abs(a) + 0.01, abs(e) + 0.01)
    return [
        placed(scale, (i, j, x, y), crs=code, raster=raster),
        turned(a, b, x, d, e, y, crs=code, raster=raster),
        turned(a / 1e5, b / 1e5, i, d / 1e5, e / 1e5, j, crs=4326, model=2, raster=raster),
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_random_places(seed: int, options: dict[str, Any], tmp_path: Path) -> None:
    for tags in random_tags(seed):
        geotiffs.write(tmp_path / "a.tif", tags, **options)
        where = found(tmp_path / "a.tif")
        assert where
        with rasterio.open(tmp_path / "a.tif") as opened:
            gdal = np.array(opened.transform).reshape(3, 3)[:2]
            assert opened.crs.to_epsg() == where.epsg
        np.testing.assert_allclose(where.affine, gdal, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(
    "tags",
    [
        placed((2, 3), POINT, (10, 10, 500_020, 4_999_970), **UTM),
        placed((2, 3), POINT, **UTM) | {MATRIX: [7.0] * 16},
        {**placed((2, 3), POINT), KEYS: (1, 1, 0, 1, 3072, 0, 1, 32633)},
    ],
    ids=["tiepoints that agree", "a matrix beside", "no model type"],
)
def test_gdal_s_choice(tags: Tags, tmp_path: Path) -> None:
    geotiffs.write(tmp_path / "a.tif", tags)
    where = found(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as opened:
        assert where and where.epsg == opened.crs.to_epsg() == 32633
        np.testing.assert_array_equal(where.affine.ravel(), np.array(opened.transform)[:6])


def test_none(tmp_path: Path) -> None:
    geotiffs.write(tmp_path / "a.tif", {})
    assert found(tmp_path / "a.tif") is None


@pytest.mark.parametrize(
    "tags,reason",
    [
        ({TIEPOINTS: [*POINT, 0, 0] * 4, KEYS: keys(**UTM)}, "only ground control points"),
        ({KEYS: keys(**UTM)}, "not say where its pixels lie"),
        (placed((2, -3), POINT, **UTM), "pixel size is 2 by -3, and both must be above 0"),
        (
            placed((2, 3), POINT, (9, 9, 500_018, 4_999_979), **UTM),
            "do not agree with its pixel size",
        ),
        (turned(1, 2, 0, 2, 4, 0, **UTM), "cannot be inverted"),
        (turned(np.nan, 2, 0, 2, 5, 0, **UTM), "cannot be inverted"),
        (placed((2, 3), POINT, crs=32767), "defined by the file itself"),
        (placed((2, 3), POINT, crs=0), "no EPSG code"),
        (placed((2, 3), POINT), "no EPSG code"),
        (placed((2, 3), POINT, model=3), "model type 3"),
        (placed((2, 3), POINT, **UTM) | {ORIENTATION: [6]}, "its orientation tag turns it"),
        ({**placed((2, 3), POINT), KEYS: (1, 1)}, "no EPSG code"),
    ],
)
def test_reasons(tags: Tags, reason: str, tmp_path: Path) -> None:
    geotiffs.write(tmp_path / "a.tif", tags)
    with pytest.raises(GeoreferenceError, match=reason):
        found(tmp_path / "a.tif")
