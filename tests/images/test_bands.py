"""Chosen bands of a TIFF: the samples that tifffile sees, of any layout."""

from __future__ import annotations

import dataclasses
import itertools
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.images.decode import DecodeError, Samples, decode, read_header
from tests.support.hostile import MAX_PIXELS, corpus
from tests.support.hostile_files import PHOTOMETRIC, SHORT, encoded, tiff
from tests.support.hostile_layouts import DEFLATE, LZW, PACKINGS, Layout, file, samples
from tests.support.hostile_odd import cases
from tests.support.hostile_tiff import tags
from tests.support.tiffs import stored

MAX_SAMPLE = 281
EIGHT = Layout(photometric=1, extra=(0,) * 7, beyond=7)


def bands(data: bytes, *numbers: int, depth_range: str | None = None) -> np.ndarray:
    header = read_header(data, 10_000, Samples(depth_range, numbers))
    pixels = decode(header)
    assert pixels.dtype == np.uint8 and pixels.shape == (header.height, header.width, 3)
    return pixels


def refused(data: bytes, *numbers: int) -> str:
    with pytest.raises(DecodeError) as error:
        bands(data, *numbers)
    assert error.value.code == "unsupported_mode"
    return str(error.value)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [8, 16])
def test_bands_as_stored(bits: int, order: str) -> None:
    for (packing, predictor, big), planar, tiled, beyond in itertools.product(
        PACKINGS, (1, 2), (False, True), (2, 7)
    ):
        if big and order == ">":
            continue
        layout = Layout(
            1, (0,) * beyond, beyond, bits, planar, tiled, packing, predictor, order, big
        )
        values = samples(layout)
        data = file(layout, values)
        if packing != LZW:  # for which tifffile needs imagecodecs
            np.testing.assert_array_equal(stored(data, layout), values)
        eight = values >> (bits - 8)
        np.testing.assert_array_equal(bands(data, 3, 1, 2), eight[..., [2, 0, 1]], str(layout))
        grey = bands(data, beyond + 1)
        np.testing.assert_array_equal(grey, np.repeat(eight[..., -1:], 3, axis=2), str(layout))


def test_the_same_as_pillow() -> None:
    for planar, packing, bits in itertools.product((1, 2), (1, DEFLATE), (8, 16)):
        layout = Layout(2, bits=bits, planar=planar, compression=packing)
        data = file(layout, samples(layout))
        np.testing.assert_array_equal(bands(data, 1, 2, 3), decode(read_header(data, 10_000)))


# bits from low to high, and differences, which libtiff minds where it unpacks alone
@pytest.mark.parametrize("tag,packing", [(266, 1), (317, 1), (317, DEFLATE)])
def test_tags_of_all_bands(tag: int, packing: int) -> None:
    values = samples(Layout(2))
    data = values.tobytes()
    strip = data if packing == 1 else zlib.compress(data)
    kind = tags(values.shape[0], values.shape[1], 3)
    kind |= {tag: (SHORT, [2]), 259: (SHORT, [packing]), PHOTOMETRIC: (SHORT, [2])}
    data = tiff(kind, [strip])
    np.testing.assert_array_equal(bands(data, 1, 2, 3), decode(read_header(data, 10_000)))


def test_white_is_zero() -> None:
    layout = dataclasses.replace(EIGHT, photometric=0)
    values = samples(layout)
    np.testing.assert_array_equal(
        bands(file(layout, values), 8, 7, 1), 255 - values[..., [7, 6, 0]]
    )


def test_one_range_of_all_chosen_bands() -> None:
    values = np.arange(24 * 40 * 4, dtype=np.uint16).reshape(24, 40, 4)
    values[..., 3] = 65535
    data = tiff(tags(24, 40, 4, 16), [values.tobytes()])
    np.testing.assert_array_equal(bands(data, 1, 2, 3), values[..., :3] >> 8)
    low, high = np.percentile(values[..., :3], (2, 98), method="nearest").astype(int)
    scaled = (np.clip(values[..., :3].astype(float), low, high) - low) / (high - low) * 255
    found = bands(data, 1, 2, 3, depth_range="auto")
    np.testing.assert_array_equal(found, np.floor(scaled + 0.5))
    declared = tags(24, 40, 4, 16) | {MAX_SAMPLE: (SHORT, [4095, 4095, 4095, 65535])}
    data = tiff(declared, [values.tobytes()])
    expected = np.floor(values[..., 2::-1].astype(float) / 4095 * 255 + 0.5)
    np.testing.assert_array_equal(bands(data, 3, 2, 1), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(orientation: int) -> None:
    values = samples(EIGHT)
    kind = tags(values.shape[0], values.shape[1], 8) | {274: (SHORT, [orientation])}
    exif = Image.Exif()
    exif[274] = orientation
    chosen = Image.fromarray(values[..., [4, 1, 6]])
    chosen.info["exif"] = exif.tobytes()
    expected = ImageOps.exif_transpose(chosen)
    np.testing.assert_array_equal(
        bands(tiff(kind, [values.tobytes()]), 5, 2, 7), np.asarray(expected)
    )


def test_a_band_that_is_not_there() -> None:
    data = file(EIGHT, samples(EIGHT))
    assert refused(data, 9, 2, 1) == "there is no band 9: this TIFF has 8"
    grey = encoded(Image.new("L", (4, 4)), "TIFF")
    assert refused(grey, 2) == "there is no band 2: this TIFF has 1"
    assert "more than 6 samples per pixel are supported only with --bands" in refused_without(data)


def refused_without(data: bytes) -> str:
    with pytest.raises(DecodeError) as error:
        decode(read_header(data, 10_000))
    return str(error.value)


@pytest.mark.parametrize("mode", ["L", "1", "I;16", "P", "CMYK", "LAB", "YCbCr"])
def test_what_has_no_bands_to_choose_from(mode: str) -> None:
    """One sample is all there is; inks, YCbCr, CIELab and palettes are colours already."""
    color = Image.linear_gradient("L").resize((30, 20)).convert("RGB")
    image = color.convert("L").convert(mode) if mode == "I;16" else color
    image = image if mode in ("I;16", "LAB") else image.convert(mode)
    data = encoded(image, "TIFF")
    np.testing.assert_array_equal(bands(data, 1), decode(read_header(data, 10_000)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_other_formats_have_no_bands(kind: str) -> None:
    data = encoded(Image.linear_gradient("L").resize((30, 20)), kind)
    np.testing.assert_array_equal(bands(data, 7, 5, 3), decode(read_header(data, 10_000)))


def test_what_cannot_be_taken_apart() -> None:
    kind = tags(24, 40, 4, 32)
    assert "must have 8 or 16 bits each" in refused(tiff(kind, [bytes(24 * 40 * 16)]), 4, 3, 2)
    jpeg = encoded(Image.new("RGB", (32, 32)), "TIFF", compression="jpeg")
    assert decode(read_header(jpeg, 10_000)).shape == (32, 32, 3)
    rgb = tags(32, 32, 3) | {PHOTOMETRIC: (SHORT, [2]), 259: (SHORT, [7])}
    assert "one by one with its compression" in refused(tiff(rgb, [b"\xff\xd8"]), 3, 2, 1)
    signed = next(case.data for case in cases() if case.name == "signed8-le-1-rgb.tif")
    assert "signed samples" in refused(signed, 3, 2, 1)


@pytest.mark.parametrize("planar", [1, 2])
def test_cut_short(planar: int) -> None:
    layout = dataclasses.replace(EIGHT, planar=planar)
    values = samples(layout)
    for compression in (1, DEFLATE):
        data = file(dataclasses.replace(layout, compression=compression), values)
        with pytest.raises(DecodeError) as error:
            bands(data[:-100], 6, 7, 8)
        assert error.value.code == "truncated"


def test_too_many_samples() -> None:
    data = file(EIGHT, samples(EIGHT))
    header = read_header(data, 21 * 19, Samples(bands=(1, 2, 3)))
    with pytest.raises(DecodeError, match="of 8 samples are over 6 times max_pixels") as error:
        decode(header)
    assert error.value.code == "too_many_pixels"


def test_no_hostile_file_does_harm() -> None:
    seen = 0
    for case in corpus():
        if not case.name.endswith(".tif"):
            continue
        for chosen in ((1,), (3, 2, 1)):
            seen += 1
            try:
                pixels = decode(read_header(case.data, MAX_PIXELS, Samples(bands=chosen)))
            except DecodeError as error:
                assert "\n" not in str(error)
            else:
                assert pixels.dtype == np.uint8 and pixels.shape[2] == 3, case.name
    assert seen > 500
