"""The replica: one row in, one row out, whatever the images and in whatever company."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import ray
from PIL import Image

from pipeline.network.build import build
from pipeline.network.contract import Boxes, ShortOfMemory, Weights
from pipeline.network.engine import Engine
from pipeline.outputs.schema import RECOVERED_SHARE, ROW
from tests.support.detecting import detect, detector, png, rows_of
from tests.support.engines import PixelEngine
from tests.support.matching import assert_same, boxes_of, picture, reference


@pytest.fixture(scope="module")
def weights(cluster: None, calibrated: Weights) -> ray.ObjectRef[Weights]:
    return ray.put(calibrated)


def test_boxes_are_torchvisions_whatever_else_is_in_the_run(
    weights: ray.ObjectRef[Weights],
) -> None:
    shapes = [(96, 128), (128, 96), (96, 128), (100, 100), (50, 200), (96, 128), (95, 127)]
    pictures = [picture(*shape, seed) for seed, shape in enumerate(shapes)]
    encoded = [png(pixels) for pixels in pictures]
    loaded = ray.get(weights)
    model = build(loaded.state, loaded.options)
    stage = detector(weights, Engine, micro_batch=1)
    forward = detect(stage, encoded)
    backward = detect(stage, [b"broken", None, *encoded[::-1]])[2:][::-1]
    for pixels, row, again in zip(pictures, forward, backward, strict=True):
        assert_same(boxes_of(row), reference(model, pixels))
        assert row["detections"] == again["detections"]
        assert (row["height"], row["width"]) == pixels.shape[:2]


def test_the_share_that_was_there(weights: ray.ObjectRef[Weights]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture(400, 300)).save(buffer, "JPEG")
    whole = buffer.getvalue()
    cuts = [whole, whole[: len(whole) * 3 // 4], whole[: len(whole) // 4], None]
    (table,) = detector(weights, PixelEngine, accept_truncated=0.5)(rows_of(cuts))
    assert table.schema.names == [*ROW.names, "status", "region", "recovered_share"]
    assert table.schema.field("recovered_share") == RECOVERED_SHARE
    shares = table["recovered_share"].to_pylist()
    assert shares[0] == 1 and 0.5 < shares[1] < 0.9 and shares[2:] == [None, None]
    assert table["error_code"].to_pylist() == [None, None, "truncated", "not_found"]


def test_boxes_are_in_the_upright_frame(weights: ray.ObjectRef[Weights]) -> None:
    upright = picture(96, 128)
    exif = Image.Exif()
    exif[0x0112] = 6  # the file holds the picture turned by 90 degrees to the left
    turned = png(np.ascontiguousarray(np.rot90(upright)), exif=exif)
    straight, rotated = detect(detector(weights, Engine), [png(upright), turned])
    assert (rotated["width"], rotated["height"]) == (128, 96)
    assert len(straight["detections"]) > 10
    for one, other in zip(straight["detections"], rotated["detections"], strict=True):
        assert one == pytest.approx(other, abs=0.05)


def test_errors_are_rows(weights: ray.ObjectRef[Weights]) -> None:
    dark, light = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 200, np.uint8)
    encoded = [png(light), None, b"", b"<html>", png(light)[:-30], png(dark), png(light)]
    found = detect(detector(weights, PixelEngine), encoded)
    failed = ["not_found", "empty", "not_an_image", "truncated"]
    assert [row["error_code"] for row in found] == [None, *failed, None, None]
    assert [row["status"] for row in found] == ["ok", *["error"] * 4, "ok", "ok"]
    assert [row["num_detections"] for row in found] == [1, None, None, None, None, 0, 1]
    assert found[5]["detections"] == [] and found[1]["detections"] is None
    assert found[0]["image_bytes"] == len(encoded[0] or b"") and found[2]["image_bytes"] == 0
    (bomb,) = detect(detector(weights, PixelEngine, max_pixels=1599), [png(light)])
    assert (bomb["error_code"], bomb["width"]) == ("too_many_pixels", None)


def test_an_image_too_thin_for_the_network(weights: ray.ObjectRef[Weights]) -> None:
    thin = np.zeros((1, 5000, 3), np.uint8)
    (row,) = detect(detector(weights, Engine), [png(thin)])
    assert (row["error_stage"], row["error_code"]) == ("forward", "too_thin")


class Small(PixelEngine):
    """An engine with memory for two images, and for none of over 60 rows."""

    def __init__(self, weights: Weights, device: str, threads: int, precision: str) -> None:
        self.sizes: list[int] = []

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        self.sizes.append(len(images))
        if len(images) > 2 or images[0].shape[0] > 60:
            raise ShortOfMemory("CUDA out of memory")
        return super().__call__(images)


def test_short_memory_halves_the_micro_batch(weights: ray.ObjectRef[Weights]) -> None:
    stage = detector(weights, Small, micro_batch=8)
    light, tall = (png(np.full((rows, 40, 3), 200, np.uint8)) for rows in (40, 70))
    found = detect(stage, [light] * 16 + [tall])
    assert [row["num_detections"] for row in found] == [1] * 16 + [None]
    assert found[16]["error_code"] == "out_of_memory"
    assert isinstance(stage.engine, Small)
    assert max(stage.engine.sizes) == 8 and stage.micro_batch == 2
    detect(stage, [light] * 16)
    assert stage.engine.sizes[-8:] == [2] * 8


class Picky(PixelEngine):
    """An engine that fails on any batch with a dark image."""

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        if any(pixels.mean() < 1 for pixels in images):
            raise RuntimeError("cannot")
        return super().__call__(images)


def test_one_image_fails_alone(weights: ray.ObjectRef[Weights]) -> None:
    dark, light = (png(np.full((40, 40, 3), value, np.uint8)) for value in (0, 200))
    found = detect(detector(weights, Picky), [light, dark, light, light, dark])
    codes = [row["error_code"] for row in found]
    assert codes == [None, "forward_failed", None, None, "forward_failed"]


class Watchful(PixelEngine):
    """An engine that notes the padded shapes of each batch."""

    def __init__(self, weights: Weights, device: str, threads: int, precision: str) -> None:
        self.seen: list[set[tuple[int, int]]] = []

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        self.seen.append({self.padded_shape(*pixels.shape[:2]) for pixels in images})
        return super().__call__(images)


def test_micro_batches_hold_one_padded_shape(weights: ray.ObjectRef[Weights]) -> None:
    stage = detector(weights, Watchful)
    generator = np.random.default_rng(0)
    encoded = [png(picture(*map(int, generator.integers(30, 130, 2)))) for _ in range(60)]
    detect(stage, encoded)
    assert isinstance(stage.engine, Watchful)
    assert all(len(shapes) == 1 for shapes in stage.engine.seen)
    assert 15 <= len(stage.engine.seen) < 40


class Crowded(PixelEngine):
    """An engine that notes how many calls it has at most at once."""

    def __init__(self, weights: Weights, device: str, threads: int, precision: str) -> None:
        self.calls = self.most = 0

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        self.calls += 1
        self.most = max(self.most, self.calls)
        time.sleep(0.05)
        self.calls -= 1
        return super().__call__(images)


class Double(Crowded):
    """Takes two at once."""

    name = "fake"
    in_flight = 2


@pytest.mark.parametrize("engine", [Crowded, Double])
def test_forwards_at_once(weights: ray.ObjectRef[Weights], engine: type[Crowded]) -> None:
    """As many as the engine gains from, of two calls of the replica that Ray makes at once."""
    stage = detector(weights, engine, micro_batch=1)
    images = [png(np.full((40, 40, 3), 200, np.uint8))] * 8
    with ThreadPoolExecutor(3) as threads:
        calls = list(threads.map(lambda rows: detect(stage, rows), [images] * 3))
    assert [[row["num_detections"] for row in found] for found in calls] == [[1] * 8] * 3
    assert isinstance(stage.engine, Crowded)
    assert stage.engine.most == engine.in_flight


def test_a_replica_starts_without_torch() -> None:
    """It takes seconds to be imported, which only a real engine needs."""
    code = "import sys, pipeline.stages.detect; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
