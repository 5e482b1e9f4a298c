"""The replica on large images in tiles: still one row an image, whatever becomes of a tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import ray
from torchvision.models.detection import FasterRCNN

from pipeline.images import tiling
from pipeline.network.build import build
from pipeline.network.contract import Boxes, ShortOfMemory, Weights
from pipeline.network.engine import Engine
from pipeline.stages.merging import merged
from pipeline.stages.micro_batches import MICRO_BATCHES_OF_TILES
from tests.support.detecting import detect, detector, png, rows_of
from tests.support.engines import PixelEngine
from tests.support.matching import assert_same, boxes_of, picture, reference

TILED: dict[str, Any] = {"tile": 100, "tile_overlap": 0.3}


@pytest.fixture(scope="module")
def weights(cluster: None, calibrated: Weights) -> ray.ObjectRef[Weights]:
    return ray.put(calibrated)


def expected(model: FasterRCNN, pixels: np.ndarray) -> Boxes:
    """What torchvision finds in each view, merged."""
    height, width = pixels.shape[:2]
    places = tiling.views(height, width, 100, 0.3)
    parts = [
        reference(model, np.ascontiguousarray(pixels[y0:y1, x0:x1]))
        for x0, y0, x1, y1 in places.tolist()
    ]
    return merged(parts, places) if len(parts) > 1 else parts[0]


def test_boxes_are_those_of_torchvision_on_each_view(weights: ray.ObjectRef[Weights]) -> None:
    """Merged; the same in any order, and without tiles where an image is no larger than one."""
    pictures = [picture(90, 150, 1), picture(100, 80, 2)]
    loaded = ray.get(weights)
    model = build(loaded.state, loaded.options)
    encoded = [png(pixels) for pixels in pictures]
    stage = detector(weights, Engine, micro_batch=1, **TILED)
    found = detect(stage, encoded)
    again = detect(stage, [b"broken", *encoded[::-1]])[:0:-1]
    stage.micro_batch = 5
    together = detect(stage, encoded)
    for number, pixels in enumerate(pictures):
        wanted = expected(model, pixels)
        assert len(wanted.labels) > 10
        assert_same(boxes_of(found[number]), wanted)
        assert_same(boxes_of(together[number]), wanted)
        assert found[number]["detections"] == again[number]["detections"]
        assert (found[number]["height"], found[number]["width"]) == pixels.shape[:2]
    (small,) = stage.engine([pictures[1]])
    np.testing.assert_array_equal(boxes_of(found[1]).xyxy, small.xyxy)
    np.testing.assert_array_equal(boxes_of(found[1]).scores, small.scores)


def test_grey_deep_and_thin_images(weights: ray.ObjectRef[Weights]) -> None:
    """In one micro-batch of tiles, or with others: as their pixels in colour, each by itself."""
    grey, row, column = picture(90, 150, 3)[..., 0], picture(1, 150, 4), picture(250, 1, 5)
    too_thin = png(picture(260, 1))  # of the network's 256 pixels none is left of its width
    encoded = [png(grey), png(grey.astype(np.uint16) * 257), png(row), png(column), too_thin]
    loaded = ray.get(weights)
    model = build(loaded.state, loaded.options)
    *found, failed = detect(detector(weights, Engine, micro_batch=8, **TILED), encoded)
    assert failed["error_code"] == "too_thin"
    in_colour = grey[..., None].repeat(3, axis=2)
    for result, pixels in zip(found, (in_colour, in_colour, row, column), strict=True):
        assert (result["status"], result["error_message"]) == ("ok", None)
        assert_same(boxes_of(result), expected(model, pixels))
    assert found[0]["detections"] == found[1]["detections"] != []


class Picky(PixelEngine):
    """Fails on any batch with a dark view; has memory for three."""

    def __init__(self, *of_replica: Any) -> None:
        self.sizes: list[int] = []

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        self.sizes.append(len(images))
        if len(images) > 3:
            raise ShortOfMemory("CUDA out of memory")
        if any(pixels.mean() < 1 for pixels in images):
            raise RuntimeError("cannot")
        return super().__call__(images)


def test_a_tile_that_fails_is_the_error_of_its_image(weights: ray.ObjectRef[Weights]) -> None:
    light = np.full((170, 240, 3), 200, np.uint8)
    spoiled = light.copy()
    spoiled[70:, 140:] = 0  # the last of its tiles
    stage = detector(weights, Picky, micro_batch=8, **TILED)
    found = detect(stage, [png(light), png(spoiled), png(light), png(light[:90, :90])])
    assert [row["error_code"] for row in found] == [None, "forward_failed", None, None]
    assert found[1]["detections"] is None and found[1]["error_message"] == "RuntimeError: cannot"
    # of one value everywhere: that of the whole image, and those at its corners
    assert found[0]["detections"] == found[2]["detections"] != []
    assert isinstance(stage.engine, Picky) and max(stage.engine.sizes) == 8
    assert stage.micro_batch <= 3


class Watchful(PixelEngine):
    """Notes how many views of which shape each batch has, and stops the run after so many."""

    def __init__(self, *of_replica: Any) -> None:
        self.seen: list[tuple[int, tuple[int, int]]] = []

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        (shape,) = {self.padded_shape(*pixels.shape[:2]) for pixels in images}
        self.seen.append((len(images), shape))
        return super().__call__(images)


def test_tiles_of_several_images_fill_micro_batches(weights: ray.ObjectRef[Weights]) -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(101, 190, (20, 2)).tolist()
    stage = detector(weights, Watchful, micro_batch=8, tile=100)
    detect(stage, [png(np.full((*size, 3), 200, np.uint8)) for size in sizes])
    assert isinstance(stage.engine, Watchful)
    counts = [count for count, shape in stage.engine.seen if shape == (128, 128)]
    views = sum(len(tiling.views(height, width, 100, 0.2)) - 1 for height, width in sizes)
    # whole images of that shape are among them
    views += [stage.engine.padded_shape(*size) for size in sizes].count((128, 128))
    assert sum(counts) == views
    short = [count for count in counts if count < 8]
    assert len(short) <= 1 + views // (7 * MICRO_BATCHES_OF_TILES)


def test_a_stop_leaves_no_half_of_an_image(weights: ray.ObjectRef[Weights]) -> None:
    stage = detector(weights, Watchful, micro_batch=1, **TILED)
    small, large = (np.full((*size, 3), 200, np.uint8) for size in ((60, 60), (170, 240)))
    engine, client = stage.engine, stage.client

    def last(images: Sequence[np.ndarray]) -> list[Boxes]:
        client.stopping = len(engine.seen) == 2  # type: ignore[attr-defined, misc]
        return Watchful.__call__(engine, images)  # type: ignore[arg-type]

    stage.engine = last  # type: ignore[assignment]
    last.padded_shape = engine.padded_shape  # type: ignore[attr-defined]
    (table,) = stage(rows_of([png(large), png(small)]))
    assert table["image_id"].to_pylist() == [1]
