"""Images larger than memory: their windows, read by ranges, and the one row of each."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pipeline.images import tiling
from pipeline.labels.export.exporter import export
from pipeline.labels.export.target import Options
from pipeline.labels.verify import verify
from pipeline.network.contract import Boxes
from pipeline.stages.merging import merged
from tests.support import tiles
from tests.support.chaos import Nodes, Siege
from tests.support.engines import MiddleEngine, middle
from tests.support.faulty import Proxy
from tests.support.geotiffs import corners, extratags, turned
from tests.support.outputs import by_name, files, rows
from tests.support.runs import go
from tests.support.tiffs import pyramid

TILE, SIDE, KILLS = 128, 600, 20
PLACED = extratags(turned(3, 1, 3e5, 0.5, -2, 6e6, crs=32719))
STEP = 3
OPTIONS: dict[str, Any] = {
    "tile": TILE,
    "max_pixels": 100_000,
    "model": {"min_size": 128, "max_size": 256},
}


def picture(seed: int) -> np.ndarray:
    """[600, 600, 3] uint8, of squares that can be told apart."""
    squares = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    return squares.repeat(SIDE // 12, axis=0).repeat(SIDE // 12, axis=1)


def expected(pixels: np.ndarray, overview: bool) -> Boxes:
    """What `middle` finds in each tile, and in the overview, merged."""
    height, width = pixels.shape[:2]
    places = tiling.tiles(height, width, TILE, 0.2)
    whole = middle(pixels[::STEP, ::STEP]) if overview else middle(np.zeros((1, 1, 3)))
    whole = dataclasses.replace(whole, xyxy=whole.xyxy * STEP)
    parts = [middle(pixels[y0:y1, x0:x1]) for x0, y0, x1, y1 in places]
    return merged([whole, *parts], np.concatenate(([[0, 0, width, height]], places)))


def check(row: dict[str, Any], pixels: np.ndarray) -> None:
    """The row is that of the picture."""
    assert (row["status"], row["error_message"]) == ("ok", None)
    assert (row["height"], row["width"]) == pixels.shape[:2]
    wanted = expected(pixels, row["image_uri"].endswith("cog.tif"))
    found = row["detections"]
    assert row["num_detections"] == len(found) == len(wanted.labels) > 1
    corners = [[box[name] for name in ("xmin", "ymin", "xmax", "ymax")] for box in found]
    np.testing.assert_array_equal(corners, wanted.xyxy)
    np.testing.assert_array_equal([box["score"] for box in found], wanted.scores)


def write(folder: Path) -> dict[str, np.ndarray]:
    """Large TIFFs beside tiles that are not; returns the pictures of what can be read."""
    folder.mkdir()
    layouts: dict[str, dict[str, Any]] = {
        "tiled.tif": {"tile": (64, 48), "compression": "zlib", "extratags": PLACED},
        "strips.tif": {"rowsperstrip": 10},
        "big.tif": {"tile": (16, 16), "bigtiff": True, "predictor": True, "compression": "zlib"},
        "slide.svs": {"tile": (128, 128), "planarconfig": "separate", "photometric": "rgb"},
    }
    pictures = {name: picture(seed) for seed, name in enumerate(layouts)}
    for name, layout in layouts.items():
        values = pictures[name]
        if layout.get("planarconfig"):
            values = np.moveaxis(values, 2, 0)
        tifffile.imwrite(folder / name, values, **layout)
    pictures["cog.tif"] = picture(7)
    pyramid(folder / "cog.tif", picture(7), (2, STEP, 6), below=False, tile=(64, 64))
    turned: dict[str, Any] = {"tile": (64, 64), "extratags": [(274, "H", 1, 6, True)]}
    tifffile.imwrite(folder / "turned.tif", picture(4)[:560], **turned)
    pictures["turned.tif"] = np.rot90(picture(4)[:560], -1)
    signed = picture(6).astype(np.int8)
    tifffile.imwrite(folder / "signed.tif", signed, photometric="rgb", rowsperstrip=10)
    whole = (folder / "tiled.tif").read_bytes()
    (folder / "cut.tif").write_bytes(whole[:-100])
    tifffile.imwrite(folder / "one-strip.tif", picture(5), rowsperstrip=SIDE, compression="zlib")
    for number in range(5):
        (folder / tiles.name(number)).write_bytes(tiles.tile(number))
    return pictures


def test_a_row_of_each(cluster: None, s3: Any, bucket: str, tmp_path: Path) -> None:
    pictures = write(tmp_path / "images")
    for path in (tmp_path / "images").iterdir():
        s3.upload_file(str(path), bucket, f"images/{path.name}")
    output = f"s3://{bucket}/out"
    summary = go(MiddleEngine, input=f"s3://{bucket}/images", output=output, **OPTIONS)
    found = by_name(output)
    for name, pixels in pictures.items():
        check(found[name], pixels)
    failed = {name: row["error_code"] for name, row in found.items() if row["status"] == "error"}
    assert failed == {
        "signed.tif": "unsupported_mode",
        "cut.tif": "truncated",
        "one-strip.tif": "too_many_pixels",
    }
    assert found["cut.tif"]["error_message"].startswith("in the region of ")
    # of what is longer than any tile, only the overview shows all
    longest = [SIDE / 4, SIDE / 4, SIDE * 3 / 4, SIDE * 3 / 4]
    assert longest in [list(box.values())[3:] for box in found["cog.tif"]["detections"]]
    assert len(found) == summary.images == 14 and summary.processed == 14
    verification = verify(output)
    assert not verification.breaches, verification.checks
    assert not [name for name in files(output) if "windows" in name or "status=large" in name]
    check_on_the_map(output, found["tiled.tif"], tmp_path)


def check_on_the_map(output: str, row: dict[str, Any], folder: Path) -> None:
    """The boxes of the one that has a georeference are where GDAL says."""
    export(output, Options(format="geojson", to=str(folder / "maps")))
    features = json.loads((folder / "maps/detections.geojson").read_text())["features"]
    assert len(features) == row["num_detections"]
    for feature, box in zip(features, row["detections"], strict=True):
        xyxy = [box[name] for name in ("xmin", "ymin", "xmax", "ymax")]
        expected = corners(str(folder / "images/tiled.tif"), xyxy)
        (ring,) = feature["geometry"]["coordinates"]
        np.testing.assert_allclose(ring[:-1], expected, rtol=0, atol=1e-8)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_twenty_kills(nodes: Nodes, proxy: Proxy, s3: Any, bucket: str, tmp_path: Path) -> None:
    """Of everything, while regions are at work: the same boxes, each image once."""
    pictures = write(tmp_path / "images")
    images = 0
    for path in (tmp_path / "images").iterdir():
        copies = range(4) if path.name in pictures else range(1)
        for copy in copies:
            s3.upload_file(str(path), bucket, f"images/{copy}/{path.name}")
            images += 1
    kinds, kills, seed = ("driver", "fetch", "replica", "writer", "node"), Counter[str](), 0
    flags = ("--tile", str(TILE), "--max-error-rate", "1")
    settings = tmp_path / "limits.yaml"
    small = "model: {min_size: 128, max_size: 256}"
    settings.write_text(f"weights: random:0\nrows_per_file: 4\nmax_pixels: 100000\n{small}\n")
    while kills.total() < KILLS:
        output = f"s3://{bucket}/out-{seed}"
        places = (nodes, proxy, f"s3://{bucket}/images/", output, tmp_path / "log", kinds, seed)
        limits = ("--config", str(settings))
        siege = Siege(*places, most=KILLS - kills.total(), flags=(*flags, *limits))
        try:
            siege.run()
        finally:
            proxy.faults = []
        found = rows(output)
        assert [row["image_id"] for row in found] == list(range(images))
        for row in found:
            if (name := row["image_uri"].rsplit("/", 1)[-1]) in pictures:
                check(row, pictures[name])
        assert not verify(output).breaches
        assert not [name for name in files(output) if "windows" in name or "=large" in name]
        kills += siege.kills
        seed += 1
        print(f"\nkills at work: {dict(siege.kills)}", end="", flush=True)
        assert seed < KILLS, "the runs end before they can be hit"
