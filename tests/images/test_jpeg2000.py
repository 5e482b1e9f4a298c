"""JPEG 2000 in TIFF: of the whole and in regions, in the colours that each kind has."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.images.decode import DecodeError, decode, read_header
from pipeline.images.tiff_header import read_stored
from pipeline.images.tiff_regions import Region, within
from tests.support.hostile_files import LONG, SHORT, picture, tiff
from tests.support.hostile_tiff import TILE_LENGTH, TILE_WIDTH, tags

YCBCR_KIND, RGB_KIND, ANY_KIND = 33003, 33005, 34712
COMPRESSION, PHOTOMETRIC, ROWS, ORIENTATION = 259, 262, 278, 274
HEIGHT, WIDTH, SIDE, STRIP = 70, 100, 32, 9
REGION = Region(10, 20, 60, 35)


def stream(values: np.ndarray, **options: Any) -> bytes:
    """A codestream that loses nothing."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG2000", no_jp2=True, **options)
    return buffer.getvalue()


def file(values: np.ndarray, kind: int, is_tiled: bool, **options: Any) -> bytes:
    """A TIFF of [70, 100] or [70, 100, samples] uint8; tiles go on beyond the border."""
    samples = values.shape[2] if values.ndim == 3 else 1
    of_file = tags(HEIGHT, WIDTH, samples) | {COMPRESSION: (SHORT, [kind])}
    of_file |= {PHOTOMETRIC: (SHORT, [2 if samples == 3 else 1])} | options.pop("changed", {})
    if is_tiled:
        of_file |= {TILE_WIDTH: (LONG, [SIDE]), TILE_LENGTH: (LONG, [SIDE])}
        margin = [(0, -HEIGHT % SIDE), (0, -WIDTH % SIDE), (0, 0)][: values.ndim]
        padded = np.pad(values, margin, mode="edge")
        places = [(y, x) for y in range(0, HEIGHT, SIDE) for x in range(0, WIDTH, SIDE)]
        parts = [padded[y : y + SIDE, x : x + SIDE] for y, x in places]
    else:
        of_file |= {ROWS: (LONG, [STRIP])}
        parts = [values[y : y + STRIP] for y in range(0, HEIGHT, STRIP)]
    return tiff(of_file, [stream(part, **options) for part in parts], tiled=is_tiled)


def cut(data: bytes, region: Region) -> np.ndarray:
    """A region's pixels, of what is stored of it."""
    image = read_stored(lambda start, end: data[start:end])
    assert image
    parts = {(start, end): data[start:end] for start, end in image.parts(region)}
    header = read_header(image.file(region, parts), 10**6)
    return within(decode(header), region, header.orientation)


@pytest.mark.parametrize("is_tiled", [False, True])
@pytest.mark.parametrize("kind", [YCBCR_KIND, RGB_KIND, ANY_KIND])
def test_colours_and_grey(kind: int, is_tiled: bool) -> None:
    region = REGION if is_tiled else Region(0, 20, WIDTH, 35)
    pixels = picture(HEIGHT, WIDTH)
    wanted = pixels
    if kind == YCBCR_KIND:
        wanted = np.asarray(Image.fromarray(pixels, "YCbCr").convert("RGB"))
    for values, expected, options in (
        (pixels, wanted, {"mct": 0}),
        (pixels, pixels, {"mct": 1}) if kind != YCBCR_KIND else (pixels, wanted, {"mct": 0}),
        (pixels[..., 0], pixels[..., :1].repeat(3, axis=2), {}),
    ):
        data = file(values, kind, is_tiled, **options)
        np.testing.assert_array_equal(decode(read_header(data, 10**6)), expected)
        inside = expected[region.y :, region.x :][: region.height, : region.width]
        np.testing.assert_array_equal(cut(data, region), inside)


def test_turned_upright() -> None:
    pixels = picture(HEIGHT, WIDTH)
    data = file(pixels, RGB_KIND, True, changed={ORIENTATION: (SHORT, [6])})
    upright = np.rot90(pixels, -1)
    np.testing.assert_array_equal(decode(read_header(data, 10**6)), upright)
    region = Region(5, 30, 40, 50)
    np.testing.assert_array_equal(cut(data, region), upright[30:80, 5:45])


def test_subsampled_colours() -> None:
    """As slide scanners write them; the encoder is FFmpeg's."""
    av = pytest.importorskip("av")
    pixels = picture(HEIGHT, WIDTH)
    context = av.CodecContext.create("jpeg2000", "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv422p"
    context.time_base, context.options = Fraction(1), {"format": "j2k", "pred": "1"}
    frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
    frame = frame.reformat(format="yuv422p", dst_color_range="JPEG")
    (encoded,) = (bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
    kind = tags(HEIGHT, WIDTH, 3) | {COMPRESSION: (SHORT, [YCBCR_KIND])}
    data = tiff(kind, [encoded])
    found = decode(read_header(data, 10**6)).astype(int)
    assert np.abs(found - pixels).max() < 30 and np.abs(found - pixels).mean() < 3


def refused(data: bytes) -> str:
    with pytest.raises(DecodeError) as error:
        decode(read_header(data, 10**6))
    assert "\n" not in str(error.value)
    return f"{error.value.code}: {error.value}"


def test_what_is_not_read() -> None:
    deep = np.zeros((HEIGHT, WIDTH), np.uint16)
    bits = {258: (SHORT, [16])}
    assert "unsupported_mode: a TIFF of grey" in refused(file(deep, ANY_KIND, True, changed=bits))
    assert refused(file(deep, ANY_KIND, True)).startswith("unsupported_mode: OSError: Unsupported")
    pixels = picture(HEIGHT, WIDTH)
    ycbcr = {PHOTOMETRIC: (SHORT, [6])}
    assert "JPEG 2000 is supported only as grey or RGB" in refused(
        file(pixels, ANY_KIND, True, changed=ycbcr)
    )


def test_damage_is_an_error_of_its_image() -> None:
    pixels = picture(HEIGHT, WIDTH)
    data = file(pixels, RGB_KIND, True)
    assert refused(data[:-10]).startswith("truncated: ")
    kind = tags(HEIGHT, WIDTH, 3) | {COMPRESSION: (SHORT, [RGB_KIND])}
    larger = stream(np.zeros((9000, WIDTH, 3), np.uint8))
    assert "holds 100x9000" in refused(tiff(kind, [larger]))
    assert "holds 99x70" in refused(tiff(kind, [stream(pixels[:, 1:])]))
    assert refused(tiff(kind, [b"no codestream"])).startswith("corrupt: ")
    choose = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(data)
        for place in choose.integers(len(data) // 2, len(data), 3):
            damaged[place] = choose.integers(256)
        try:
            assert decode(read_header(bytes(damaged), 10**6)).shape == pixels.shape
        except DecodeError as error:
            assert error.code in ("corrupt", "truncated", "unsupported_mode")
