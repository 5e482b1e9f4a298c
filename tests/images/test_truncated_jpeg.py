"""JPEGs that end too early: what is said to be there of them is."""

from __future__ import annotations

import io
import re
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.images.decode import DecodeError, decode, read_header
from pipeline.images.truncated_jpeg import recovered
from tests.support.hostile_files import encoded, picture, segment, segments

MAX_PIXELS = 10_000_000
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("L", {}),
    ("RGB", {"subsampling": 0}),
    ("RGB", {"subsampling": 1, "quality": 95}),
    ("RGB", {"subsampling": 2, "optimize": True}),
    ("RGB", {"subsampling": 2, "restart_marker_rows": 1}),
    ("RGB", {"subsampling": 0, "restart_marker_blocks": 1}),
    ("CMYK", {"quality": 95}),
]


@pytest.fixture(scope="module")
def photograph(photographs: dict[str, bytes]) -> Image.Image:
    return Image.open(io.BytesIO(photographs["rocket.jpg"])).resize((90, 75))


def stored(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def share(jpeg: bytes, whole: np.ndarray) -> float:
    """What is said to be there; it is there."""
    found = recovered(jpeg)
    if not found:
        return 0
    rows = found[1] * len(whole)
    assert rows == round(rows)
    pixels = np.asarray(found[0])
    np.testing.assert_array_equal(pixels[: round(rows)], whole[: round(rows)])
    return found[1]


@pytest.mark.parametrize("mode,options", KINDS)
def test_what_is_said_to_be_there_is(
    photograph: Image.Image, mode: str, options: dict[str, Any]
) -> None:
    jpeg = encoded(photograph.convert(mode), "JPEG", **options)
    whole, start = stored(jpeg), segments(jpeg)[-1]
    ends = [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", jpeg)]
    ends += [end + byte for end in ends for byte in (1, 2)]
    cuts = sorted({*range(start, len(jpeg) - 40, 37), *range(len(jpeg) - 40, len(jpeg) - 2), *ends})
    shares = [share(jpeg[:at], whole) for at in cuts]
    assert shares == sorted(shares) and shares[0] == 0
    assert 0.4 < shares[-1] < 1  # a byte before the end of its data
    assert len(set(shares)) > 2
    for missing in (0, 1, 2):
        assert share(jpeg[: len(jpeg) - missing], whole) == 1


def test_several_scans_are_all_there_or_nothing_is(photograph: Image.Image) -> None:
    jpeg = encoded(photograph, "JPEG", progressive=True)
    whole = stored(jpeg)
    scans = [found.start() for found in re.finditer(rb"\xff\xda", jpeg)]
    assert len(scans) > 5
    for at in (*range(scans[0], len(jpeg) - 2, 97), *scans, *(scan + 4 for scan in scans)):
        assert share(jpeg[:at], whole) == 0
    assert share(jpeg[:-2], whole) == share(jpeg[:-1], whole) == 1


def test_components_in_scans_of_their_own(photograph: Image.Image) -> None:
    planes = [encoded(plane, "JPEG") for plane in photograph.split()]
    head = planes[0][: planes[0].index(b"\xff\xc0")]
    tables = planes[0][planes[0].index(b"\xff\xc4") : segments(planes[0])[-2]]
    frame = struct.pack(">BHHB", 8, 75, 90, 3) + b"".join(bytes([n, 0x11, 0]) for n in (1, 2, 3))
    parts = [head, segment(0xC0, frame), tables]
    for number, plane in enumerate(planes, 1):
        parts += [segment(0xDA, bytes([1, number, 0, 0, 63, 0])), plane[segments(plane)[-1] : -2]]
    jpeg = b"".join(parts)
    whole = stored(jpeg + b"\xff\xd9")
    assert share(jpeg, whole) == 1
    assert share(jpeg[:-9], whole) == 0
    assert share(b"".join(parts[:-2]), whole) == 0  # a file of two, whole but for the third


@pytest.mark.parametrize("padding", [bytes(3000), b"\xff" * 3000, b"\xff" + bytes(512)])
def test_room_behind_the_data_is_no_picture(photograph: Image.Image, padding: bytes) -> None:
    jpeg = encoded(photograph, "JPEG", subsampling=0)
    whole, middle = stored(jpeg), len(jpeg) * 3 // 4
    assert share(jpeg[:middle] + padding, whole) == share(jpeg[:middle], whole) < 1
    assert share(jpeg[:-2] + padding, whole) == 1


def test_a_share_that_will_do() -> None:
    """A photograph held upright; its lower part is at its right in the file."""
    exif = Image.Exif()
    exif[0x0112] = 6
    jpeg = encoded(picture(400, 300), "JPEG", exif=exif)
    cut = jpeg[: len(jpeg) * 2 // 3]
    with pytest.raises(DecodeError, match=r"is truncated .*; (.*)% of its rows are there") as error:
        decode(read_header(cut, MAX_PIXELS))
    assert error.value.code == "truncated"
    there = float(str(error.value).split("; ")[1].split("%")[0]) / 100
    assert 0.3 < there < 0.9
    header = read_header(cut, MAX_PIXELS)
    pixels = decode(header, accept_truncated=there - 0.01)
    assert pixels.shape == (300, 400, 3) == (header.height, header.width, 3)
    assert header.recovered_share == pytest.approx(there, abs=0.001)
    rows = round(400 * header.recovered_share)
    whole = decode(read_header(jpeg, MAX_PIXELS))
    np.testing.assert_array_equal(pixels[:, 400 - rows :], whole[:, 400 - rows :])
    assert (pixels[:, 0] == pixels[0, 0]).all()  # as libjpeg fills it
    with pytest.raises(DecodeError):
        decode(read_header(cut, MAX_PIXELS), accept_truncated=there + 0.01)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"])
def test_other_formats_stay_truncated(kind: str) -> None:
    data = encoded(picture(), kind)
    with pytest.raises(DecodeError) as error:
        decode(read_header(data[: len(data) - len(data) // 8], MAX_PIXELS), accept_truncated=0.01)
    assert error.value.code == "truncated"
