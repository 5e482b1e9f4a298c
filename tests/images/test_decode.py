"""Every kind of image file that a bucket holds, and what is wrong with the others."""

from __future__ import annotations

import io
import struct
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.images import libtiff
from pipeline.images.decode import DecodeError, decode, read_header
from tests.support import hostile_heif
from tests.support.hostile_files import encoded, exif, picture, png
from tests.support.hostile_odd import cases

LIMIT = 10_000_000


def pixels(data: bytes, max_pixels: int = LIMIT) -> np.ndarray:
    header = read_header(data, max_pixels)
    array = decode(header)
    assert array.dtype == np.uint8 and array.shape == (header.height, header.width, 3)
    return array


def code(data: bytes, max_pixels: int = LIMIT) -> str:
    with pytest.raises(DecodeError) as error:
        pixels(data, max_pixels)
    assert "\n" not in str(error.value)
    return error.value.code


@pytest.fixture(scope="module")
def photograph(photographs: dict[str, bytes]) -> Image.Image:
    image = Image.open(io.BytesIO(photographs["astronaut.png"])).convert("RGB").resize((60, 40))
    return Image.fromarray(np.asarray(image))  # without the file's colour profile


@pytest.mark.parametrize(
    "kind,mode,options",
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "RGB", {"subsampling": 0}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGB", {}),
        ("PNG", "L", {}),
        ("PNG", "1", {}),
        ("PNG", "P", {}),
        ("PNG", "LA", {}),
        ("PNG", "RGBA", {}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
        ("TIFF", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "CMYK", {}),
        ("GIF", "P", {}),
        ("AVIF", "RGB", {}),
        ("AVIF", "L", {}),
    ],
)
def test_as_pillow(photograph: Image.Image, kind: str, mode: str, options: dict[str, Any]) -> None:
    data = encoded(photograph.convert(mode), kind, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(pixels(data), expected)


def test_transparency_is_dropped(photograph: Image.Image) -> None:
    clear = photograph.copy()
    clear.putalpha(0)
    np.testing.assert_array_equal(pixels(encoded(clear, "PNG")), np.asarray(photograph))
    palette = photograph.convert("P")
    expected = np.asarray(palette.convert("RGB"))
    data = encoded(palette, "PNG", transparency=3)
    np.testing.assert_array_equal(pixels(data), expected)


def test_first_frame(photograph: Image.Image) -> None:
    other = ImageOps.invert(photograph)
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        data = encoded(photograph, kind, save_all=True, append_images=[other, other])
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(pixels(data), expected)
        assert np.abs(pixels(data).astype(int) - np.asarray(photograph)).mean() < 30


def test_16_bits_are_scaled() -> None:
    values = np.array([[0, 255, 256, 32767, 65535]], ">u2")
    grey = png(5, 1, 16, 0, b"\0" + values.tobytes())
    assert pixels(grey)[0, :, 0].tolist() == [0, 0, 1, 127, 255]
    color = png(5, 1, 16, 2, b"\0" + np.repeat(values, 3, axis=1).tobytes())
    np.testing.assert_array_equal(pixels(color), pixels(grey))
    tiff = encoded(Image.fromarray(values.astype(np.uint16)), "TIFF")
    np.testing.assert_array_equal(pixels(tiff), pixels(grey))


def test_interlaced() -> None:
    # a 1x1 interlaced image is its first pass alone
    assert pixels(png(1, 1, 8, 2, b"\0\1\2\3", interlace=1)).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(photograph: Image.Image, kind: str, orientation: int) -> None:
    block = Image.Exif()
    block[0x0112] = orientation
    data = encoded(photograph, kind, exif=block)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert expected.size == (photograph.size if orientation < 5 else photograph.size[::-1])
    np.testing.assert_array_equal(pixels(data), np.asarray(expected))


@pytest.mark.parametrize("kind", hostile_heif.KINDS)
def test_other_orientations_than_that_of_the_file_are_ignored(kind: str) -> None:
    """By the standard of HEIF its own turns count, not what EXIF or XMP say beside them."""
    image = Image.fromarray(picture())
    block, label = exif(6), b'tiff:Orientation="6"'
    # those who write HEIF make turns of what they find there
    hidden = block.replace(b"\x12\1", b"\x99\1"), label.replace(b"O", b"X")
    data = hostile_heif.heif(kind, image, exif=hidden[0], xmp=hidden[1])
    for before, after in ((hidden[0], block), (hidden[1], label)):
        said = data.replace(before, after)
        assert after in said
        np.testing.assert_array_equal(pixels(said), pixels(data))


def test_alpha_that_is_multiplied_in() -> None:
    clear = Image.fromarray(picture()).convert("RGBA").convert("RGBa")
    assert np.abs(pixels(hostile_heif.heif("heic", clear)) - picture().astype(int)).max() < 12


@pytest.mark.parametrize(
    "kind,module,words",
    [
        ("avif", "PIL._avif", "this build of Pillow"),
        ("heic", "pillow_heif", r"pip install '\.\[heic]"),
    ],
)
def test_a_machine_without_the_decoder(
    kind: str, module: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = hostile_heif.small(kind)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DecodeError, match=words) as error:
        pixels(data)
    assert error.value.code == "unsupported_mode"


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_junk_orientation_is_1(photograph: Image.Image, orientation: Any) -> None:
    block = Image.Exif()
    block[0x0112] = orientation
    data = encoded(photograph, "PNG", exif=block)
    np.testing.assert_array_equal(pixels(data), np.asarray(photograph))


def test_damaged_exif_is_no_damage(photograph: Image.Image) -> None:
    data = encoded(photograph, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert pixels(data).shape == (40, 60, 3)


def test_what_is_no_image(photograph: Image.Image) -> None:
    assert code(b"") == "empty"
    assert code(b"<html>404</html>") == "not_an_image"
    assert code(b"\0" * 1000) == "not_an_image"
    pdf = encoded(photograph, "PDF")
    assert code(pdf) == "not_an_image"
    assert code(encoded(photograph, "ICO")) == "not_an_image"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_cut_short(photograph: Image.Image, kind: str) -> None:
    data = encoded(photograph, kind)
    assert code(data[:3]) in ("truncated", "not_an_image")
    for length in (20, len(data) // 4, len(data) // 2, len(data) - len(data) // 8):
        assert code(data[:length]) == "truncated", length


def test_damage(photograph: Image.Image) -> None:
    data = bytearray(encoded(photograph, "PNG"))
    start = data.index(b"IDAT") + 4
    data[start : start + 64] = b"\xff" * 64
    assert code(bytes(data)) == "corrupt"


def test_bombs_are_refused_by_their_header() -> None:
    bomb = png(30_000, 30_000, 8, 2, b"")
    assert code(bomb, 200_000_000) == "too_many_pixels"
    exact = png(10, 10, 8, 0, (b"\0" + b"\7" * 10) * 10)
    assert pixels(exact, 100).shape == (10, 10, 3)
    assert code(exact, 99) == "too_many_pixels"


def test_modes_without_a_range() -> None:
    for dtype in (np.int32, np.float32):
        image = Image.fromarray(np.ones((4, 4), dtype))
        assert code(encoded(image, "TIFF")) == "unsupported_mode"


@pytest.mark.parametrize(
    "name,words",
    [
        ("signed8-le-1.tif", "signed samples have no defined range; store .* unsigned"),
        ("signed16-be-8-rgb.tif", "signed samples have no defined range; store .* unsigned"),
        (
            "bands7-1.tif",
            "more than 6 samples .* only with --bands; store plain grey or RGB",
        ),
        (
            "bands5-2.tif",
            "samples per pixel: 5, bits per sample: 8, planar: .* store plain grey or RGB",
        ),
        ("inks.tif", "inks are not CMYK; store"),
        ("lab-planes.tif", "planar CIELab is not supported; store"),
        ("ycbcr-planes-22.tif", "planar YCbCr with subsampling is not supported; store"),
        ("webp.tif", r"no decoder for compression 50001 \(webp\); store .* Deflate"),
        ("jpeg-ls.jpg", "JPEG-LS image is not supported; store a baseline or progressive JPEG"),
    ],
)
def test_a_refusal_says_what_and_what_to_do(name: str, words: str) -> None:
    data = next(case.data for case in cases() if case.name == name)
    with pytest.raises(DecodeError, match=words) as error:
        pixels(data)
    assert error.value.code == "unsupported_mode"


def test_a_pillow_that_shows_no_libtiff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libtiff, "_library", object)
    libtiff.silence()
    assert libtiff.can_decode(8)


def test_exif_after_the_pixels(photograph: Image.Image) -> None:
    block = Image.Exif()
    block[0x0112] = 6
    data = encoded(photograph, "PNG", exif=block)
    start = data.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", data[start : start + 4])[0]
    moved = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    header = read_header(moved, LIMIT)
    assert (header.width, header.height) == (60, 40)
    assert decode(header).shape == (60, 40, 3)
