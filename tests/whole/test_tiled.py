"""Images in tiles under kills: each has its one row, with the boxes of a run in peace."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.images import tiling
from pipeline.labels.verify import verify
from pipeline.network.contract import Boxes
from pipeline.stages.merging import merged
from tests.support.chaos import Driver, Nodes, Siege
from tests.support.engines import middle
from tests.support.faulty import Proxy
from tests.support.matching import boxes_of
from tests.support.outputs import rows

IMAGES, TILE, KILLS = 240, 64, 20
KINDS = ("driver", "fetch", "replica", "writer", "node")


def picture(number: int) -> np.ndarray:
    """[40 to 200, 40 to 200, 3] uint8, of squares that can be told apart."""
    random = np.random.default_rng(number)
    height, width = random.integers(40, 201, 2)
    squares = random.integers(0, 256, (10, 10, 3), np.uint8)
    return squares.repeat(20, axis=0).repeat(20, axis=1)[:height, :width]


def expected(pixels: np.ndarray) -> Boxes:
    """What `middle` finds in each view, merged."""
    height, width = pixels.shape[:2]
    places = tiling.views(height, width, TILE, 0.2)
    parts = [middle(pixels[y0:y1, x0:x1]) for x0, y0, x1, y1 in places]
    return merged(parts, places) if len(parts) > 1 else parts[0]


def check(output: str) -> list[Any]:
    """Each image has its row and its boxes; returns these."""
    found = rows(output)
    assert [row["image_id"] for row in found] == list(range(IMAGES))
    for number, row in enumerate(found):
        assert row["image_uri"].endswith(f"/{number:04d}.png") and row["status"] == "ok"
        pixels = picture(number)
        assert (row["height"], row["width"]) == pixels.shape[:2]
        boxes, wanted = boxes_of(row), expected(pixels)
        np.testing.assert_array_equal(boxes.xyxy, wanted.xyxy)
        np.testing.assert_array_equal(boxes.scores, wanted.scores)
    assert not verify(output).breaches
    return [row["detections"] for row in found]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_twenty_kills(nodes: Nodes, proxy: Proxy, s3: Any, bucket: str, tmp_path: Path) -> None:
    """Of everything; the command that was killed is given again."""
    for number in range(IMAGES):
        file = io.BytesIO()
        Image.fromarray(picture(number)).save(file, "PNG")
        key = f"images/{number:04d}.png"
        s3.put_object(Bucket=bucket, Key=key, Body=file.getvalue())
    source, log, flags = f"s3://{bucket}/images/", tmp_path / "log", ("--tile", str(TILE))
    driver = Driver(nodes, source, f"s3://{bucket}/in-peace", log, *flags)
    assert driver.end() == 0, driver.said()
    in_peace, kills, seed = check(f"s3://{bucket}/in-peace"), Counter[str](), 0
    while kills.total() < KILLS:
        output, most = f"s3://{bucket}/out-{seed}", min(10, KILLS - kills.total())
        siege = Siege(nodes, proxy, source, output, log, KINDS, seed, most=most, flags=flags)
        try:
            siege.run()
        finally:
            proxy.faults = []
        assert check(output) == in_peace
        kills += siege.kills
        seed += 1
        print(f"\nkills at work: {dict(siege.kills)}", end="", flush=True)
        assert seed < KILLS, "the runs end before they can be hit"
