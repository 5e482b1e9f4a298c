"""Boxes in map coordinates: where GDAL says that they are."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image

from pipeline.errors import UsageError
from pipeline.images.tiff_header import ReadRange, read_directory
from pipeline.labels import originals
from pipeline.labels.annotations import load_truth
from pipeline.labels.export.formats import geoparquet
from tests.support import geotiffs, outputs, synthetic
from tests.support.exports import names_of, run
from tests.support.geotiffs import placed, turned

DEGREE = 1e-8
UTM = {"crs": 32633}
MAPS = {
    "north.tif": placed((0.5, 0.5), (0, 0, 500_000, 5_000_000), **UTM),
    "south.tif": turned(3, 1, 3e5, 0.5, -2, 6e6, crs=32719),
    "point.tif": placed((10, 10), (7, 9, 7e5, 1e6), crs=32618, raster=2),
    "mirrored.tif": turned(-2, 0, 4e5, 0, -2, 4e6, crs=32633),
    "degrees.tif": placed((1e-4, 2e-4), (0, 0, 12.5, 41.9), crs=4326, model=2, unit=9102),
    "web.tif": turned(1.2, 0.3, -8e6, 0.3, -1.1, 5e6, crs=3857),
    "dutch.tif": placed((1, 1), (0, 0, 155_000, 463_000), crs=28992),
}
UNPLACED = {
    "plain.tif": {},
    "own.tif": placed((1, 1), (0, 0, 0, 0), crs=32767),
    "unit.tif": placed((1, 1), (0, 0, 0, 0), **UTM, unit=9002),
    "unknown.tif": placed((1, 1), (0, 0, 0, 0), crs=30000),
    "far.tif": placed((1, 1), (0, 0, 9e9, 9e9), **UTM),
    "smaller.tif": MAPS["north.tif"],
}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images on maps, ones that are not, and a JPEG, with the sizes that their rows say."""
    root = tmp_path_factory.mktemp("maps")
    tags = {**MAPS, **UNPLACED}
    images = root / "images"
    names = [*tags, "photo.jpg"]
    output = synthetic.write(root / "out", len(names), 9, 5, str(images), names, seed=2)
    images.mkdir()
    for row in outputs.rows(str(output)):
        name = Path(row["image_uri"]).name
        size = (row["width"], row["height"])
        if name == "photo.jpg":
            Image.new("RGB", size).save(images / name)
        else:
            kept = (5, 5) if name == "smaller.tif" else size
            geotiffs.write(images / name, tags[name], kept, compression="zlib")
    return output


def detections(output: Path) -> dict[str, list[dict[str, Any]]]:
    rows = outputs.rows(str(output))
    return {Path(r["image_uri"]).name: r["detections"] for r in rows if r["status"] == "ok"}


def features(folder: Path) -> list[dict[str, Any]]:
    content = json.loads((folder / "detections.geojson").read_text())
    assert content["type"] == "FeatureCollection" and "crs" not in content
    return list(content["features"])


def area(ring: np.ndarray) -> float:
    x, y = (ring[:-1] - ring[0]).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def test_every_box_is_where_gdal_says(output: Path, tmp_path: Path) -> None:
    assert run(output, tmp_path / "a", format="geojson") == 1  # of an image that is another now
    boxes = detections(output)
    found = features(tmp_path / "a")
    assert len(found) == sum(len(boxes[name]) for name in MAPS) > 40
    by_image: dict[str, list[Any]] = {name: [] for name in MAPS}
    for feature in found:
        by_image[Path(feature["properties"]["image_uri"]).name].append(feature)
    for name, mine in by_image.items():
        for number, (feature, box) in enumerate(zip(mine, boxes[name], strict=True)):
            values, geometry = feature["properties"], feature["geometry"]
            assert (values["label"], values["detection"]) == (box["label"], number)
            assert values["category_id"] == box["label_id"]
            assert values["score"] == pytest.approx(box["score"], abs=1e-6)
            xyxy = [box[corner] for corner in ("xmin", "ymin", "xmax", "ymax")]
            assert [values[f"pixel_{c}"] for c in ("xmin", "ymin", "xmax", "ymax")] == (
                pytest.approx(xyxy, abs=0.0051)
            )
            (ring,) = np.array(geometry["coordinates"])
            assert geometry["type"] == "Polygon" and area(ring) > 0
            assert (ring[0] == ring[-1]).all()
            expected = geotiffs.corners(values["image_uri"], xyxy)
            expected = expected[[0, 3, 2, 1]] if name == "mirrored.tif" else expected
            np.testing.assert_allclose(ring[:-1], expected, rtol=0, atol=DEGREE)


def test_what_is_left_out_is_counted_and_named(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    assert run(output, tmp_path / "a", format="geojson") == 1
    counts = json.loads((tmp_path / "a/export.json").read_text())["counts"]
    assert counts["images_without_georeference"] == 2  # a plain TIFF and a JPEG
    assert counts["images_of_unusable_georeference"] == 3 and counts["images_unreadable"] == 1
    assert counts["boxes_off_the_map"] == len(detections(output)["far.tif"]) > 0
    assert {Path(uri).name for uri in names_of(tmp_path / "a")} == {*MAPS, "far.tif"}
    for name, why in {
        "plain.tif": "not a GeoTIFF",
        "photo.jpg": "not a TIFF",
        "own.tif": "without an EPSG code",
        "unit.tif": "its unit (EPSG:9002) is not that of EPSG:32633",
        "unknown.tif": "PROJ has no transformation from EPSG:30000",
        "smaller.tif": "and has 5x5 now",
    }.items():
        assert re.search(rf"{name}' \(.*{re.escape(why)}", caplog.text), name
    out = capsys.readouterr().out
    assert (
        "converted to WGS 84 from EPSG:32633 (3 images), " in out
        and "EPSG:28992 (1 image, accurate to 1 m" in out
    )
    assert f"{counts['boxes']:,} boxes" in out and "2 images without a georeference" in out


def test_geoparquet_has_the_same(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geoparquet, "GROUP_ROWS", 20)
    for kind in ("geojson", "geoparquet"):
        assert run(output, tmp_path / kind, "--score-threshold", "0.3", format=kind) == 1
    file = pq.ParquetFile(tmp_path / "geoparquet/detections.parquet")
    geo = json.loads(file.metadata.metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    assert geo["version"] == "1.1.0" and column["encoding"] == "WKB" and "crs" not in column
    assert column["geometry_types"] == ["Polygon"] and file.num_row_groups > 1
    rows, expected = file.read().to_pylist(), features(tmp_path / "geojson")
    assert len(rows) == len(expected) > 20
    bounds = []
    for row, feature in zip(rows, expected, strict=True):
        head, ring = row["geometry"][:13], np.frombuffer(row["geometry"][13:]).reshape(-1, 2)
        assert head.hex() == "01" + "03000000" + "01000000" + "05000000"
        np.testing.assert_allclose(ring, feature["geometry"]["coordinates"][0], rtol=0, atol=DEGREE)
        assert list(row["bbox"].values()) == [*ring.min(0), *ring.max(0)]
        bounds.append(list(row["bbox"].values()))
        assert row["label"] == feature["properties"]["label"]
        assert row["image_uri"] == feature["properties"]["image_uri"]
        assert row["pixel_xmax"] == pytest.approx(feature["properties"]["pixel_xmax"], abs=0.0051)
    low, high = np.array(bounds)[:, :2].min(0), np.array(bounds)[:, 2:].max(0)
    assert column["bbox"] == [*low, *high]


def test_what_the_antimeridian_cuts(tmp_path: Path) -> None:
    """In UTM zone 1 it stands near 166,000 metres east at the equator."""
    output = synthetic.write(tmp_path / "out", 1, 20, input=str(tmp_path), names=["a.tif"], seed=1)
    (row,) = outputs.rows(str(output))
    tags = placed((10, 10), (0, 0, 163_000, 20_000), crs=32601)
    geotiffs.write(tmp_path / "a.tif", tags, (row["width"], row["height"]))
    for kind in ("geojson", "geoparquet"):
        assert run(output, tmp_path / kind, format=kind) == 0
    file = pq.ParquetFile(tmp_path / "geoparquet/detections.parquet")
    column = json.loads(file.metadata.metadata[b"geo"])["columns"]["geometry"]
    assert column["geometry_types"] == ["MultiPolygon", "Polygon"]
    cut = 0
    for feature, stored in zip(
        features(tmp_path / "geojson"), file.read()["geometry"].to_pylist(), strict=True
    ):
        geometry = feature["geometry"]
        if geometry["type"] == "MultiPolygon":
            cut += 1
            west, east = (np.array(polygon[0]) for polygon in geometry["coordinates"])
            assert west[:, 0].max() == 180 and east[:, 0].min() == -180
            assert area(west) > 0 and area(east) > 0
            assert stored[:9].hex() == "01" + "06000000" + "02000000"
            first = 9 + 13 + 16 * len(west)
            for ring, at in ((west, 9), (east, first)):
                assert stored[at : at + 5].hex() == "0103000000"
                points = np.frombuffer(stored[at + 13 : at + 13 + 16 * len(ring)])
                np.testing.assert_allclose(points.reshape(-1, 2), ring, rtol=0, atol=DEGREE)
            assert len(stored) == first + 13 + 16 * len(east)
    assert 0 < cut < len(row["detections"])


def test_headers_of_a_bucket_by_ranges(
    s3: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of files whose directory stands behind a megabyte of pixels."""
    names = ["a.tif", "b.tif"]
    output = synthetic.write(tmp_path / "out", 2, 9, input=f"s3://{bucket}/in", names=names)
    for row in outputs.rows(str(output)):
        name = Path(row["image_uri"]).name
        size = (row["width"], row["height"])
        pixels = np.zeros((*size[::-1], 5), np.uint8)
        extra = geotiffs.extratags(MAPS["south.tif"])
        tifffile.imwrite(tmp_path / name, pixels, extratags=extra, planarconfig="contig")
        s3.upload_file(str(tmp_path / name), bucket, f"in/{name}")
    read: list[int] = []

    def counted(read_range: ReadRange) -> Any:
        def reading(start: int, end: int) -> bytes:
            data = read_range(start, end)
            read.append(len(data))
            return data

        return read_directory(reading)

    monkeypatch.setattr(originals, "read_directory", counted)
    assert run(output, tmp_path / "a", format="geojson") == 0
    assert max(read) == 65536 and len(read) <= 2 * len(names)
    by_name = {f"s3://{bucket}/in/{name}": str(tmp_path / name) for name in names}
    found, boxes = features(tmp_path / "a"), detections(output)
    assert len(found) == sum(map(len, boxes.values())) > 5
    for feature in found:
        values = feature["properties"]
        box = boxes[Path(values["image_uri"]).name][values["detection"]]
        xyxy = [box[name] for name in ("xmin", "ymin", "xmax", "ymax")]
        (ring,) = feature["geometry"]["coordinates"]
        expected = geotiffs.corners(by_name[values["image_uri"]], xyxy)
        np.testing.assert_allclose(ring[:-1], expected, rtol=0, atol=DEGREE)


def test_nothing_on_a_map(tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: Any) -> None:
    output = synthetic.write(tmp_path / "out", 2, input=str(tmp_path), names=["a.png", "b.png"])
    for name in ("a.png", "b.png"):
        Image.new("L", (9, 9)).save(tmp_path / name)
    assert run(output, tmp_path / "to", format="geojson") == 2
    printed = capsys.readouterr().err
    assert "none of 2 images has a georeference that can be used" in printed
    assert not list((tmp_path / "to").glob("*"))


def test_pyproj_is_missing(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "pyproj", None)
    assert run(output, tmp_path / "a", format="geojson") == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "pip install '.[geo]' in the clone" in printed
    assert not (tmp_path / "a").exists()


def test_it_is_no_truth(output: Path, tmp_path: Path) -> None:
    for kind in ("geojson", "geoparquet"):
        run(output, tmp_path / kind, format=kind)
        for path in (tmp_path / kind, next((tmp_path / kind).glob("detections.*"))):
            with pytest.raises(UsageError, match="map coordinates"):
                load_truth(str(path))
