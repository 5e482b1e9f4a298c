"""TIFFs read by ranges: which ones, how much of them, and what becomes of a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import fsspec.asyn
import numpy as np
import pytest
import tifffile

from pipeline.config import Config
from pipeline.images.decode import decode, read_header
from pipeline.images.tiff_regions import Region
from pipeline.stages.download import Downloader, Fetched
from pipeline.stages.stored import StoredImages
from tests.support import tiles
from tests.support.fetching import Silent
from tests.support.hostile_files import SAMPLES, SHORT, tiff
from tests.support.hostile_tiff import PLANAR, tags

T = TypeVar("T")
SIDE, REGION = 2000, Region(300, 500, 400, 300)


class Counted(Downloader):
    """Notes what is read."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.spans: list[tuple[int, int]] = []

    async def read(
        self, uri: str, size: int | None, span: tuple[int, int] | None = None
    ) -> Fetched:
        assert span, "the whole was read"
        self.spans.append(span)
        got = await super().read(uri, size, span)
        got.attempts = len(self.spans)  # as if the store had failed for a while
        return got


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


@pytest.fixture
def image(tmp_path: Path, picture: np.ndarray) -> Path:
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, picture, tile=(128, 128), compression="zlib")
    return path


def reader(folder: Path, **options: Any) -> StoredImages:
    config = Config(input=str(folder), output=f"{folder}/out", tile=256, **options)
    return StoredImages(config, Counted(config, Silent()))


def spans(stored: StoredImages) -> list[tuple[int, int]]:
    assert isinstance(stored.downloader, Counted)
    return stored.downloader.spans


def waited(read: Coroutine[Any, Any, T]) -> T:
    """What a read gives, on the thread that file systems use: this one may have a loop already."""
    return asyncio.run_coroutine_threadsafe(read, fsspec.asyn.get_loop()).result()


def looked_at(stored: StoredImages, path: Path, size: int | None = None) -> Fetched | None:
    return waited(stored.large(str(path), size))


def test_beyond_either_limit(image: Path) -> None:
    folder, size = image.parent, image.stat().st_size
    for options in ({"max_pixels": SIDE * SIDE - 1}, {"max_object_bytes": size - 1}):
        stored = reader(folder, **options)
        found = looked_at(stored, image, size)
        assert found and (found.code, found.message) == ("large", f"{SIDE}x{SIDE}")
        assert sum(end - start for start, end in spans(stored)) < size / 10
    assert looked_at(reader(folder), image, size) is None


def test_what_is_no_tiff(tmp_path: Path) -> None:
    (tmp_path / "named.tif").write_bytes(tiles.tile(1, 64))
    (tmp_path / "a.png").write_bytes(tiles.tile(1, 64))
    stored = reader(tmp_path, max_pixels=1)
    assert looked_at(stored, tmp_path / "a.png") is None and not spans(stored)
    assert looked_at(stored, tmp_path / "named.tif") is None and len(spans(stored)) == 1
    gone = looked_at(stored, tmp_path / "gone.tif")
    assert gone and gone.code == "not_found"


def test_a_damaged_header_is_the_outcome_of_its_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the whole, where that may be read; of none of them the run's."""
    path = tmp_path / "no_samples.tif"
    path.write_bytes(tiff(tags(8, 8, 3) | {SAMPLES: (SHORT, [0]), PLANAR: (SHORT, [2])}, [b""]))
    assert looked_at(reader(tmp_path), path, path.stat().st_size) is None
    found = looked_at(reader(tmp_path, max_object_bytes=9), path, path.stat().st_size)
    assert found and (found.stage, found.code) == ("decode", "corrupt")
    assert found.message and "0 samples per pixel" in found.message

    def odd(*_: Any) -> None:
        raise ZeroDivisionError("what nobody thought of")

    monkeypatch.setattr("pipeline.stages.stored.read_stored", odd)
    found = looked_at(reader(tmp_path, max_object_bytes=9), path, path.stat().st_size)
    assert found and found.code == "corrupt" and "nobody thought of" in str(found.message)


def test_what_lies_behind_the_end_is_not_asked_for(tmp_path: Path) -> None:
    """File systems answer that in their own ways; ext4's is an error beyond 16 TiB."""
    path = tmp_path / "led_out.tif"
    path.write_bytes(b"II+\0" + (8).to_bytes(4, "little") + (2**61).to_bytes(8, "little"))
    stored = reader(tmp_path, max_object_bytes=9)
    found = looked_at(stored, path, 16)
    assert found and (found.stage, found.code) == ("decode", "corrupt")
    assert spans(stored) == [(0, 2**16)]


def test_a_region_and_no_more(image: Path, picture: np.ndarray) -> None:
    stored = reader(image.parent)
    found = waited(stored.region(str(image), image.stat().st_size, (SIDE, SIDE), REGION))
    assert found.data and found.attempts == len(spans(stored)) > 1
    pixels = decode(read_header(found.data, 10**6))
    wanted = picture[REGION.y :, REGION.x :][: REGION.height, : REGION.width]
    np.testing.assert_array_equal(pixels[-REGION.height :, -REGION.width :], wanted)
    assert sum(end - start for start, end in spans(stored)) < image.stat().st_size / 5


def test_a_region_that_is_too_large_or_gone(image: Path) -> None:
    stored = reader(image.parent, max_object_bytes=1000)
    too_large = waited(stored.region(str(image), None, (SIDE, SIDE), REGION))
    assert (too_large.data, too_large.code) == (None, "object_too_large")
    other = waited(reader(image.parent).region(str(image), None, (SIDE, SIDE + 1), REGION))
    assert other.code == "read_failed" and "when its regions were planned" in str(other.message)
    image.write_bytes(b"")
    stored = reader(image.parent)
    replaced = waited(stored.region(str(image), None, (SIDE, SIDE), REGION))
    assert (replaced.data, replaced.code) == (None, "read_failed")
