"""Samples of more than 8 bits: which of them is black, and which is white."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.images.decode import Samples, decode, read_header
from pipeline.images.depth import is_low_contrast
from tests.support.hostile_files import FLOAT, PHOTOMETRIC, SHORT, Tags, chunk, encoded, png, tiff
from tests.support.hostile_tiff import tags

MIN, MAX, SMIN, SMAX = 280, 281, 340, 341
SHAPE = (24, 40)
THERMAL = np.random.default_rng(5).integers(7000, 9041, SHAPE).astype(np.uint16)
TWELVE = np.random.default_rng(6).integers(0, 4096, SHAPE).astype(np.uint16)
HIGH = "the high byte"


def grey(data: bytes, depth_range: Any = None) -> np.ndarray:
    pixels = decode(read_header(data, 10_000, Samples(depth_range)))
    assert pixels.dtype == np.uint8 and (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def expected(values: np.ndarray, limits: Any) -> np.ndarray:
    if limits == HIGH:
        return np.asarray(values >> 8, np.uint8)
    low, high = limits
    scaled = (np.clip(values.astype(float), low, high) - low) / (high - low) * 255
    return np.asarray(np.floor(scaled + 0.5), np.uint8)


def as_tiff(values: np.ndarray, declared: Tags | None = None, order: str = "<") -> bytes:
    kind = tags(values.shape[0], values.shape[1], bits=16) | (declared or {})
    return tiff(kind, [values.astype(f"{order}u2").tobytes()], order)


def as_png(values: np.ndarray, before: bytes = b"") -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, 0, rows, before=before)


def with_alpha(values: np.ndarray, before: bytes = b"") -> bytes:
    """A PNG whose rows are differences of neighbours."""
    pixels = np.stack([values, ~values], axis=2).astype(">u2")
    shown = pixels.view(np.uint8)
    shown[:, 1:] -= shown[:, :-1].copy()
    rows = b"".join(b"\1" + row.tobytes() for row in shown)
    return png(values.shape[1], values.shape[0], 16, 4, rows, before=before)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "values,declared,limits",
    [
        (TWELVE, {}, HIGH),
        (TWELVE, {MAX: (SHORT, [4095])}, (0, 4095)),
        (TWELVE, {MIN: (SHORT, [0]), MAX: (SHORT, [65535])}, HIGH),
        (TWELVE, {MAX: (SHORT, [255])}, HIGH),  # which it does not keep to
        (THERMAL, {MIN: (SHORT, [7000]), MAX: (SHORT, [9040])}, (7000, 9040)),
        (THERMAL, {SMIN: (SHORT, [7000]), SMAX: (SHORT, [9040])}, (7000, 9040)),
        (THERMAL, {SMIN: (FLOAT, [7000]), SMAX: (FLOAT, [9040])}, (7000, 9040)),
        (THERMAL, {SMIN: (FLOAT, [0.5]), SMAX: (FLOAT, [9040.5])}, HIGH),
        (THERMAL, {MIN: (SHORT, [7000])}, (7000, 65535)),
        (THERMAL, {MIN: (SHORT, [9040]), MAX: (SHORT, [7000])}, HIGH),
        (THERMAL, {MIN: (SHORT, []), MAX: (2, b"many\0")}, HIGH),
    ],
)
def test_what_a_tiff_declares(values: np.ndarray, declared: Tags, limits: Any, order: str) -> None:
    found = grey(as_tiff(values, declared, order))
    np.testing.assert_array_equal(found, expected(values, limits))


def test_white_is_zero() -> None:
    declared: Tags = {PHOTOMETRIC: (SHORT, [0]), MAX: (SHORT, [4095])}
    data = as_tiff(TWELVE, declared)
    np.testing.assert_array_equal(grey(data), 255 - expected(TWELVE, (0, 4095)))
    np.testing.assert_array_equal(grey(data, (100, 900)), 255 - expected(TWELVE, (100, 900)))
    del declared[MAX]
    found = grey(as_tiff(TWELVE, declared))
    np.testing.assert_array_equal(found, 255 - expected(TWELVE, HIGH))


def test_12_bits_packed() -> None:
    pairs = TWELVE.reshape(-1, 2).astype(np.uint32)
    packed = (pairs[:, 0] << 12 | pairs[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
    data = tiff(tags(*SHAPE, bits=12), [packed.tobytes()])
    np.testing.assert_array_equal(grey(data), TWELVE >> 4)
    np.testing.assert_array_equal(grey(data, (0, 1023)), expected(TWELVE, (0, 1023)))


def repeated(values: np.ndarray) -> np.ndarray:
    return values << 4 | values >> 8


@pytest.mark.parametrize("write", [as_png, with_alpha])
@pytest.mark.parametrize("broken", [b"", chunk(b"acTL", b"")])
@pytest.mark.parametrize(
    "values,bits,limits",
    [
        (TWELVE, 12, (0, 4095)),
        (TWELVE, 16, HIGH),
        (TWELVE, 0, HIGH),
        (TWELVE, 11, HIGH),  # of which there are more
        (TWELVE >> 5, 7, (0, 127)),
        (repeated(TWELVE), 12, HIGH),
        (repeated(TWELVE >> 4), 12, HIGH),  # so dark that all of it is below 4,096
        (TWELVE >> 4 << 4, 12, HIGH),
        (((TWELVE >> 4) * 65535.0 / 4095).round().astype(np.uint16), 12, HIGH),
        (np.zeros(SHAPE, np.uint16), 12, HIGH),
    ],
)
def test_significant_bits_of_a_png(
    values: np.ndarray, bits: int, limits: Any, broken: bytes, write: Any
) -> None:
    data = write(values, broken + chunk(b"sBIT", bytes([bits])))
    np.testing.assert_array_equal(grey(data), expected(values, limits))


@pytest.mark.parametrize("write", [as_tiff, as_png, with_alpha])
def test_a_range_that_is_asked_for(write: Any) -> None:
    assert grey(write(np.array([[0, 100, 101, 500, 9000]], np.uint16)), (100, 1120)).tolist() == [
        [0, 0, 0, 100, 255]
    ]
    # a level is four samples wide, and a half belongs to the next one
    assert grey(write(np.array([[1, 2, 5, 6]], np.uint16)), (0, 1020)).tolist() == [[0, 1, 1, 2]]
    data = write(THERMAL)
    np.testing.assert_array_equal(grey(data), expected(THERMAL, HIGH))
    for limits in ((7000, 9040), (8000, 8100), (0, 65535)):
        np.testing.assert_array_equal(grey(data, limits), expected(THERMAL, limits))


@pytest.mark.parametrize(
    "data,values",
    [
        (as_tiff(TWELVE, {MAX: (SHORT, [4095])}), TWELVE),
        (as_png(TWELVE, chunk(b"sBIT", b"\x0c")), TWELVE),
    ],
)
def test_what_is_asked_for_goes_before_what_is_declared(data: bytes, values: np.ndarray) -> None:
    np.testing.assert_array_equal(grey(data, (0, 65534)), expected(values, (0, 65534)))


@pytest.mark.parametrize("write", [as_tiff, as_png, with_alpha])
def test_the_range_of_each_image(write: Any) -> None:
    values = np.arange(5000, 6000).astype(np.uint16).reshape(25, 40)
    values[0, 0], values[-1, -1] = 0, 65535  # pixels that are broken
    np.testing.assert_array_equal(grey(write(values), "auto"), expected(values, (5020, 5979)))
    rare = np.full((20, 20), 300, np.uint16)
    rare[3, 3:6] = 100, 500, 700
    np.testing.assert_array_equal(grey(write(rare), "auto"), expected(rare, (100, 700)))
    flat = np.full((20, 20), 40_000, np.uint16)
    np.testing.assert_array_equal(grey(write(flat), "auto"), expected(flat, HIGH))


@pytest.mark.parametrize("mode", ["L", "RGB", "LA"])
def test_8_bits_stay(mode: str) -> None:
    image = Image.fromarray((TWELVE >> 4).astype(np.uint8)).convert(mode)
    for kind in ("PNG", "TIFF"):
        data = encoded(image, kind)
        for wanted in ((0, 10), "auto"):
            np.testing.assert_array_equal(grey(data, wanted), TWELVE >> 4)


@pytest.mark.parametrize(
    "values,low",
    [
        (THERMAL, True),
        (TWELVE, True),
        (TWELVE * np.uint16(2), False),
        (np.array([[0, 65535]], np.uint16), False),
        (np.full((3, 3), 700, np.uint16), True),
    ],
)
def test_little_of_the_range(values: np.ndarray, low: bool) -> None:
    row = np.repeat(values[..., None], 3, axis=2).astype(">u2")
    rows = b"".join(b"\0" + line.tobytes() for line in row)
    color = png(values.shape[1], values.shape[0], 16, 2, rows)
    for data in (as_tiff(values), as_png(values), color):
        header = read_header(data, 10_000)
        assert header.is_deep and is_low_contrast(decode(header)) is low


def test_8_bits_are_not_deep() -> None:
    image = Image.fromarray((TWELVE >> 4).astype(np.uint8))
    for kind in ("PNG", "TIFF", "JPEG", "GIF", "BMP", "WEBP"):
        assert not read_header(encoded(image, kind), 10_000).is_deep


def test_16_bit_grey_as_pillow_reads_it() -> None:
    """Of files that declare nothing, the high byte as ever, whatever their other tags are."""
    data = as_tiff(THERMAL)
    values = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(grey(data), values >> 8)
