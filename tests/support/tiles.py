"""Small images that can be told apart by what an engine says of them, and runs checked by it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.support.outputs import files, rows, tables

SIDE = 32


def colour(number: int) -> tuple[int, int, int]:
    return (number % 251, number // 251 % 251, 100)


def tile(number: int, side: int = SIDE) -> bytes:
    """A PNG of one colour, which is the number's; 3 KB for 32 pixels a side."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour(number)).save(file, "PNG", compress_level=0)
    return file.getvalue()


def name(number: int) -> str:
    return f"{number:05d}.png"


def write(folder: Path, numbers: Iterable[int]) -> str:
    """Tiles as files; returns the folder."""
    folder.mkdir()
    for number in numbers:
        (folder / name(number)).write_bytes(tile(number))
    return str(folder)


def upload(s3: Any, bucket: str, numbers: Iterable[int]) -> str:
    """Tiles as objects; returns the URL of their prefix."""

    def put(number: int) -> None:
        s3.put_object(Bucket=bucket, Key=f"images/{name(number)}", Body=tile(number))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, numbers))
    return f"s3://{bucket}/images/"


def check_complete(
    output: str,
    count: int,
    errors: Mapping[int, str] | None = None,
    replaced: Mapping[int, tuple[int, int]] | None = None,
) -> list[dict[str, Any]]:
    """A finished output of tiles 0 to count - 1: each once, with its own box, or the given error.

    Args:
        errors: number of a tile to the error code of its row; all other tiles are ok.
        replaced: number of a tile to the number and side of the one that stands in its place.

    Returns:
        The rows in order of the tiles' numbers.
    """
    found = rows(output)
    ids = [row["image_id"] for row in found]
    assert ids == list(range(count)), Counter(range(count)) - Counter(ids)
    failed = {row["image_id"]: row["error_code"] for row in found if row["status"] == "error"}
    assert failed == dict(errors or {}), [
        (row["image_id"], row["error_code"], row["error_message"], row["attempts"])
        for row in found
        if row["image_id"] in {*failed, *(errors or {})}
    ]
    for row in found:
        number = row["image_id"]
        assert row["image_uri"].endswith(name(number))
        if row["status"] == "ok":
            shown, side = (replaced or {}).get(number, (number, SIDE))
            box = row["detections"][0]
            assert np.isclose(box["score"], np.mean(colour(shown)) / 256)
            assert (box["xmax"], row["width"]) == (side, side)
            assert row["image_bytes"] == len(tile(shown, side))
    names = files(output)
    assert len({table.schema for table in tables(output).values()}) == 1
    assert "_SUCCESS" in names and "_run/lease.json" not in names
    return found


def check_partial(output: str) -> set[int]:
    """An unfinished output: no id twice, no row wrong, no error; returns the ids that are there."""
    found = rows(output)
    ids = [row["image_id"] for row in found]
    assert len(set(ids)) == len(ids) and "_SUCCESS" not in files(output)
    assert not [row for row in found if row["status"] == "error"]
    for row in found:
        score = row["detections"][0]["score"]
        assert np.isclose(score, np.mean(colour(row["image_id"])) / 256)
    return set(ids)
