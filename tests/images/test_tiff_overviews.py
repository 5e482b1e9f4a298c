"""Overviews of large TIFFs: which pictures of a file are such, and which one is looked at."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import numpy as np
import pytest
import tifffile

from pipeline.images import tiff_header
from pipeline.images.decode import Samples, decode, read_header
from pipeline.images.tiff_header import read_stored
from pipeline.images.tiff_overviews import Overview, chosen, read_overviews
from tests.support.hostile_files import picture
from tests.support.tiffs import pyramid

PIXELS = picture(403, 602)
TILED: dict[str, Any] = {"tile": (32, 32), "compression": "zlib"}


def overviews(data: bytes) -> list[Overview]:
    """The smallest first."""

    def read(start: int, end: int) -> bytes:
        assert start < 2**62, "file systems raise"
        return data[start:end]

    image = read_stored(read)
    assert image
    return sorted(read_overviews(read, image), key=lambda overview: overview[1].width)


def sizes(data: bytes) -> list[tuple[int, int]]:
    return [(stored.width, stored.height) for _, stored in overviews(data)]


def is_large(least: int, height: int, width: int) -> bool:
    return min(height, width) >= least


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("below", [False, True])
def test_the_smallest_that_is_not_enlarged(below: bool, big: bool) -> None:
    buffer = io.BytesIO()
    written = pyramid(buffer, PIXELS, (2, 4, 8, 16), below, bigtiff=big, **TILED)
    data = buffer.getvalue()
    found = overviews(data)
    assert [stored.width for _, stored in found] == [38, 76, 151, 301]
    for least, most, place in ((0, 10**6, 3), (100, 10**6, 1), (102, 10**6, 0), (0, 999, None)):
        one = chosen(found, most, 10**9, Samples(), partial(is_large, least))
        if place is None:
            assert one is None
            continue
        assert one
        region, stored = one
        parts = {(start, end): data[start:end] for start, end in stored.parts(region)}
        pixels = decode(read_header(stored.file(region, parts), most))
        np.testing.assert_array_equal(pixels, written[place])
        assert region[:4] == (0, 0, *written[place].shape[1::-1]) and region.overview > 0


def test_one_of_too_many_bytes_is_passed_over() -> None:
    """The next larger one may be compressed; a smaller one would be enlarged."""
    half, quarter = PIXELS[::2, ::2], PIXELS[::4, ::4]
    found = overviews(
        pages(
            (PIXELS, TILED),
            (np.zeros_like(half), {**TILED, "subfiletype": 1}),
            (quarter, {"tile": (32, 32), "subfiletype": 1}),
        )
    )
    (_, small), (_, large) = found
    most = int(small.sizes.sum())
    assert most > int(large.sizes.sum())
    for max_bytes, one in ((most, small), (most - 1, large), (1, None)):
        region = chosen(found[::-1], 10**6, max_bytes, Samples(), lambda *size: True)
        assert (region and region[1]) is one


def pages(*written: tuple[np.ndarray, dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for pixels, layout in written:
            writer.write(pixels, metadata=None, **layout)
    return buffer.getvalue()


def test_levels_of_a_slide_are_told_from_its_other_pictures() -> None:
    """Its label and macro picture are called reduced images, and may have its shape."""
    square = picture(640, 640)
    strips: dict[str, Any] = {"rowsperstrip": 16}
    slide = pages(
        (square, {**TILED, "description": "Aperio Image Library v12.0.15\n640x640"}),
        (square[::3, ::3], strips),
        (square[::4, ::4], TILED),
        (square[::8, ::8], TILED),
        (square[:100, :100], {**strips, "subfiletype": 1}),
        (square[:100, :300], {**strips, "subfiletype": 9}),
    )
    assert sizes(slide) == [(80, 80), (160, 160)]


def test_what_is_no_overview() -> None:
    """Another page, a mask, another shape, the same size, other samples, turned otherwise."""
    half, kind = PIXELS[::2, ::2], {**TILED, "subfiletype": 1}
    others = pages(
        (PIXELS, TILED),
        (half, {**TILED, "subfiletype": 2}),
        (half, TILED),
        (half[:190], kind),
        (PIXELS, kind),
        (half[..., 0], kind),
        (half.astype(np.uint16), kind),
        (half, {**kind, "extratags": [(274, "H", 1, 3, True)]}),
        (PIXELS[::3, ::3], kind),
    )
    assert sizes(others) == [(201, 135)]
    with tifffile.TiffFile(io.BytesIO(others)) as file:
        kind_of_last = file.pages[-1].aspage().tags[254].valueoffset
    mask = others[:kind_of_last] + b"\5" + others[kind_of_last + 1 :]
    assert not sizes(mask)


def test_one_that_cannot_be_read_is_left_out() -> None:
    data = bytearray(
        pages((PIXELS, TILED), *((PIXELS[::n, ::n], {**TILED, "subfiletype": 1}) for n in (2, 4)))
    )
    found = overviews(bytes(data))
    assert len(found) == 2
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        value = file.pages[2].aspage().tags[259].valueoffset
    data[value : value + 2] = b"\x01\x7f"  # a compression that nobody knows
    one = chosen(overviews(bytes(data)), 10**6, 10**9, Samples(), lambda *size: True)
    assert one and one[1].width == 301


@pytest.mark.parametrize("below", [False, True])
def test_the_budget_of_a_directory_is_its_own(below: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest images need nearly all of it, and their overviews some again."""
    monkeypatch.setattr(tiff_header, "BLOCK_BYTES", 64)
    monkeypatch.setattr(tiff_header, "HEADER_BYTES", 1900)
    buffer = io.BytesIO()
    pyramid(buffer, PIXELS, (2, 4, 8), below, **TILED)
    assert len(sizes(buffer.getvalue())) == 3


def test_a_chain_that_leads_out_of_any_file() -> None:
    """To where file systems raise of the number itself."""
    buffer = io.BytesIO()
    pyramid(buffer, PIXELS, (2,), below=False, bigtiff=True, **TILED)
    data = buffer.getvalue()
    ((second, _),) = overviews(data)
    end = second + 8 + 20 * int.from_bytes(data[second : second + 8], "little")
    assert data[end : end + 8] == bytes(8)
    for following in (2**62, 2**63 - 1, 2**64 - 1):
        damaged = data[:end] + following.to_bytes(8, "little") + data[end + 8 :]
        assert sizes(damaged) == [(301, 202)]


def test_a_chain_that_is_damaged() -> None:
    """It ends there, and where it leads back."""
    data = pages(
        (PIXELS, TILED), *((PIXELS[::n, ::n], {**TILED, "subfiletype": 1}) for n in (2, 4))
    )
    first, second = (directory for directory, _ in overviews(data)[::-1])
    # the number of directories that follow stands behind one's entries, of 12 bytes each
    end = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    assert int.from_bytes(data[end : end + 4], "little") == second
    for following in (2**32 - 1, first, 8, len(data) - 3):
        damaged = data[:end] + following.to_bytes(4, "little") + data[end + 4 :]
        assert sizes(damaged) == [(301, 202)]
