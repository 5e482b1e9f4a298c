"""Regions of TIFFs: the pixels of the whole, from what is stored of them alone."""

from __future__ import annotations

import io
import itertools
import struct
import tracemalloc
from functools import partial
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pipeline.images import tiling
from pipeline.images.decode import DecodeError, Samples, decode, read_header
from pipeline.images.tiff import WIDTH
from pipeline.images.tiff_header import BLOCK_BYTES, HEADER_BYTES, read_stored
from pipeline.images.tiff_plan import plan
from pipeline.images.tiff_regions import Region, StoredImage, within
from tests.support.hostile_files import LONG, SHORT, encoded, picture, tiff
from tests.support.hostile_layouts import COLORS, HEIGHT, WIDE, Layout, file, layouts, samples
from tests.support.hostile_tiff import TILE_LENGTH, TILE_WIDTH, tags

AS_DECLARED = Samples()
ORIENTATION, JPEG, YCBCR, MAX_SAMPLE = 274, 7, 6, 281


def stored(data: bytes) -> StoredImage:
    found = read_stored(lambda start, end: data[start:end])
    assert found
    return found


def cut(data: bytes, region: Region, wanted: Samples = AS_DECLARED) -> np.ndarray:
    """A region's pixels, of what is stored of it."""
    image = stored(data)
    parts = {(start, end): data[start:end] for start, end in image.parts(region)}
    header = read_header(image.file(region, parts), 10**6, wanted)
    pixels = decode(header)
    width, height = image.size(region)
    assert pixels.shape[0] * pixels.shape[1] == width * height
    return within(pixels, region, header.orientation)


def whole(data: bytes, region: Region, wanted: Samples = AS_DECLARED) -> np.ndarray:
    """The same, of the whole image."""
    pixels = decode(read_header(data, 10**6, wanted))
    return pixels[region.y : region.y + region.height, region.x : region.x + region.width]


def outcome(read: Any, *arguments: Any) -> Any:
    try:
        return read(*arguments).tolist()
    except DecodeError as error:
        return error.code


def some_region(
    choose: np.random.Generator, width: int, height: int, is_tiled: bool, swapped: bool = False
) -> Region:
    """All of the strips that it is in, where there are some."""
    x, y = int(choose.integers(width)), int(choose.integers(height))
    if not is_tiled and swapped:
        return Region(x, 0, int(choose.integers(width - x)) + 1, height)
    high = int(choose.integers(height - y)) + 1
    return (
        Region(x, y, int(choose.integers(width - x)) + 1, high)
        if is_tiled
        else Region(0, y, width, high)
    )


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("bits", [8, 16])
def test_the_pixels_of_the_whole(bits: int, planar: int) -> None:
    choose, read = np.random.default_rng(bits), 0
    for photometric in COLORS:
        for layout in itertools.islice(layouts(photometric, bits, planar), 0, None, 17):
            if (photometric, bits) == (3, 16):  # no file has such a palette, nor is it read
                continue
            data = file(layout, samples(layout))
            region = some_region(choose, WIDE, HEIGHT, layout.tiled)
            found = outcome(cut, data, region)
            assert found == outcome(whole, data, region), (layout, region)
            read += isinstance(found, list)
    assert read > 8


def test_the_bands_of_the_whole() -> None:
    choose, wanted = np.random.default_rng(0), Samples((100, 40_000), (8, 1, 5))
    for planar, tiled, bits in itertools.product((1, 2), (False, True), (8, 16)):
        layout = Layout(1, (0,) * 7, 7, bits, planar, tiled, compression=8)
        data = file(layout, samples(layout))
        region = some_region(choose, WIDE, HEIGHT, layout.tiled)
        np.testing.assert_array_equal(cut(data, region, wanted), whole(data, region, wanted))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_upright(orientation: int) -> None:
    """As the whole is, and in the windows that the upright image has."""
    choose, pixels = np.random.default_rng(orientation), picture(110, 150)
    turned = [(ORIENTATION, "H", 1, orientation, True)]
    planes: dict[str, Any] = {"planarconfig": "separate", "photometric": "rgb"}
    for layout in ({"tile": (32, 48)}, {"rowsperstrip": 9}, {"tile": (16, 32), **planes}):
        values = np.moveaxis(pixels, 2, 0) if "planarconfig" in layout else pixels
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, values, compression="zlib", extratags=turned, **layout)
        data = buffer.getvalue()
        image = stored(data)
        assert (image.width, image.height) == ((110, 150) if orientation > 4 else (150, 110))
        planned = plan(image, 40, 0.2, 9_000, AS_DECLARED)
        assert len(planned) > 2
        kind = (image.width, image.height, image.is_tiled, orientation > 4)
        for region in (*planned, *(some_region(choose, *kind) for _ in range(4))):
            np.testing.assert_array_equal(cut(data, region), whole(data, region))
        for wanted in (Samples(bands=(2,)), Samples((10, 100), (3, 2, 1))):
            found = cut(data, planned[-1], wanted)
            np.testing.assert_array_equal(found, whole(data, planned[-1], wanted))


def test_jpeg_of_subsampled_ycbcr() -> None:
    pixels = picture(64, 96)
    parts = [encoded(pixels[y : y + 32, x : x + 32], "JPEG") for y in (0, 32) for x in (0, 32, 64)]
    kind = tags(64, 96, 3) | {259: (SHORT, [JPEG]), 262: (SHORT, [YCBCR]), 530: (SHORT, [2, 2])}
    kind |= {TILE_WIDTH: (LONG, [32]), TILE_LENGTH: (LONG, [32])}
    data, region = tiff(kind, parts, tiled=True), Region(20, 30, 60, 20)
    found = cut(data, region)
    np.testing.assert_array_equal(found, whole(data, region))
    assert np.abs(found.astype(int) - pixels[30:50, 20:80]).max() < 30


def zeros(height: int, width: int, **layout: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((height, width, 3), np.uint8), compression="zlib", **layout)
    return buffer.getvalue()


@pytest.mark.parametrize("layout", [{"tile": (32, 16)}, {"tile": (80, 80)}, {"rowsperstrip": 9}])
def test_each_tile_once_and_no_region_too_large(layout: dict[str, Any]) -> None:
    choose = np.random.default_rng(1)
    for _ in range(20):
        height, width, tile = (
            int(choose.integers(*span)) for span in ((60, 500), (60, 500), (32, 60))
        )
        overlap = float(choose.choice([0, 0.2, 0.7]))
        image = stored(zeros(height, width, **layout))
        regions = plan(image, tile, overlap, 60_000, AS_DECLARED)
        assert max(np.prod(image.size(region)) for region in regions) <= 60_000
        found = np.concatenate(
            [tiling.tiles(r.height, r.width, tile, overlap) + [r.x, r.y] * 2 for r in regions]
        )
        found = found[np.lexsort((found[:, 0], found[:, 1]))]
        np.testing.assert_array_equal(found, tiling.tiles(height, width, tile, overlap))


def refused(data: bytes, wanted: Samples = AS_DECLARED, max_pixels: int = 10_000) -> str:
    """Why an image is not read in windows."""
    with pytest.raises(DecodeError) as error:
        plan(stored(data), 32, 0.2, max_pixels, wanted)
    assert "\n" not in str(error.value)
    return f"{error.value.code}: {error.value}"


def test_what_only_the_whole_tells() -> None:
    grey = tags(64, 64, 1, 16) | {MAX_SAMPLE: (SHORT, [4095])}
    data = tiff(grey, [bytes(2 * 64 * 64)])
    assert "give depth_range MIN and MAX" in refused(data)
    assert "give MIN and MAX" in refused(data, Samples("auto"))
    assert plan(stored(data), 32, 0.2, 10_000, Samples((0, 4095)))


def test_what_is_too_large() -> None:
    assert "is over 1000 times max_pixels" in refused(zeros(200, 200, tile=(16, 16)), max_pixels=39)
    one_strip = refused(zeros(200, 200, rowsperstrip=200))
    assert one_strip.startswith("too_many_pixels: the strips that a window of 32 pixels needs are")
    assert "the tiles that a window of 32 pixels needs are" in refused(
        zeros(200, 200, tile=(160, 160))
    )


@pytest.mark.parametrize("is_tiled", [True, False])
@pytest.mark.parametrize("width,height,side", [(2**31 - 1, 90, 2**31 - 1), (2**31 - 1, 90, 2**20)])
def test_a_ribbon_costs_no_memory(is_tiled: bool, width: int, height: int, side: int) -> None:
    """Millions of tiles, of which a header of a few bytes tells, are refused before they are."""
    places = np.zeros((1, 1, -(-width // side)), np.int64)
    empty = ImageFileDirectory_v2(prefix=b"II")
    image = StoredImage(width, height, 1, side, height, is_tiled, places, places, empty)
    empty[WIDTH] = width
    tracemalloc.start()
    with pytest.raises(DecodeError) as error:
        plan(image, 128, 0.2, 200_000_000, AS_DECLARED)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.value.code == "too_many_pixels" and most < 10**6


def test_hostile_headers() -> None:
    """Damage, or a part of a file that is somewhere else; of none more is read than of a header."""
    kind = tags(64, 64, 3) | {TILE_WIDTH: (LONG, [2**31]), TILE_LENGTH: (LONG, [2**31])}
    assert "too_many_pixels" in refused(tiff(kind, [b""], tiled=True))
    few = tags(64, 64, 3) | {TILE_WIDTH: (LONG, [16]), TILE_LENGTH: (LONG, [16])}
    circular = tiff(few, [b""] * 16, following=8, tiled=True)
    assert stored(circular).width == 64
    endless = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, 2**60)
    for data in (
        tiff(few, [b""] * 3, tiled=True),  # of sixteen
        tiff(tags(0, 64, 3), [b""]),
        endless,
        endless + bytes(2 * HEADER_BYTES),
        b"II*\0" + struct.pack("<I", 2**32 - 1),
    ):
        read = 0

        def counted(start: int, end: int, data: bytes = data) -> bytes:
            nonlocal read
            read += end - start
            return data[start:end]

        with pytest.raises(DecodeError):
            read_stored(counted)
        assert read <= HEADER_BYTES + 2 * BLOCK_BYTES
    assert read_stored(lambda start, end: b"\x89PNG\r\n\x1a\n"[start:end]) is None


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_part_that_is_cut_off(compression: str | None) -> None:
    """And those behind it are not read in its place."""
    buffer = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    tifffile.imwrite(buffer, values, tile=(16, 16), compression=compression)
    data = buffer.getvalue()[:-40]
    assert outcome(cut, data, Region(40, 40, 24, 24)) == "truncated"
    np.testing.assert_array_equal(cut(data, Region(5, 5, 40, 40)), values[5:45, 5:45])


def part_of(data: bytes, start: int, end: int) -> bytes:
    return data[start:end]


@pytest.mark.parametrize("big", [False, True])
def test_a_damaged_header_is_an_error_of_its_image(big: bool) -> None:
    buffer = io.BytesIO()
    values = np.zeros((200, 200, 3), np.uint8)
    tifffile.imwrite(buffer, values, tile=(32, 32), compression="zlib", bigtiff=big)
    data, choose = buffer.getvalue(), np.random.default_rng(0)
    # tifffile puts the directory right behind the file's own header
    refused = 0
    for _ in range(1500):
        damaged = bytearray(data)
        for place in choose.integers(8, 400, choose.integers(1, 4)):
            damaged[place] = choose.integers(256)
        try:
            image = read_stored(partial(part_of, bytes(damaged)))
            if image:
                for region in plan(image, 64, 0.2, 20_000, AS_DECLARED):
                    image.file(region, {})
        except DecodeError:
            refused += 1
    assert 100 < refused < 1400
