"""The images that are measured."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from PIL import Image

from pipeline.bench import mix


def test_the_mix_is_of_cocos_sizes() -> None:
    assert sum(mix.SIZES.values()) == pytest.approx(1, abs=0.01)
    counts = Counter(mix.sizes(1000))
    for size, share in mix.SIZES.items():
        assert counts[size] == pytest.approx(1000 * share, abs=5)
    assert mix.sizes(100) == mix.sizes(100) != mix.sizes(100, seed=1)


def test_images_are_jpegs_that_a_seed_decides() -> None:
    images = mix.encoded(4)
    assert images == mix.encoded(4) != mix.encoded(4, seed=1)
    for data, (width, height) in zip(images, mix.sizes(4), strict=True):
        image = Image.open(io.BytesIO(data))
        assert (image.format, image.size) == ("JPEG", (width, height))
        # bits a pixel as photographs have them
        assert 1 < 8 * len(data) / (width * height) < 8
