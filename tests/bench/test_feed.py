"""Batches of decoded images."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from pipeline.bench import mix
from pipeline.bench.feed import Feed, bucketed, in_order


def test_batches_hold_each_image_once() -> None:
    shapes = [(1, 1), (2, 2), (1, 1), (3, 3), (1, 1), (2, 2)]
    assert bucketed(shapes, 2) == [[0, 2], [1, 5], [3], [4]]
    assert in_order(5, 2) == [[0, 1], [2, 3], [4]]


def test_a_feed_gives_the_decoded_images_in_order() -> None:
    images = mix.encoded(12)
    feed = Feed(images, threads=2)
    batches = in_order(12, 5)
    for batch, (given, pixels) in zip(batches, feed(batches), strict=True):
        assert given == batch
        for place, found in zip(batch, pixels, strict=True):
            expected = np.asarray(Image.open(io.BytesIO(images[place])))
            np.testing.assert_array_equal(found, expected)
