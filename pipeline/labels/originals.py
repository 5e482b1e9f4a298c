"""The encoded bytes of an output's images, read again."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.images.decode import Samples, decode, read_header
from pipeline.images.errors import DecodeError
from pipeline.images.tiff_header import read_directory
from pipeline.inputs import access
from pipeline.inputs.containers import lance_rows, parquet, reading
from pipeline.inputs.containers.video.listing import KIND as FRAME
from pipeline.labels.ahead import ahead
from pipeline.labels.output import Output
from pipeline.outputs.manifest import MEMBER
from pipeline.reading import recorded
from pipeline.store import failures, objects

READERS = 16
T = TypeVar("T")
R = TypeVar("R")


def read_many(
    output: Output, wanted: Iterable[tuple[int, str, T]]
) -> Iterator[tuple[T, bytes | str]]:
    """Read images while the caller works on those before; `READERS` at a time.

    Args:
        output: the run's.
        wanted: image id, URI, and whatever shall come back with the bytes.

    Yields:
        In the same order, the third item with the bytes, or with the reason why there are none.
    """
    return _each(read, output, wanted)


def read_tags(
    output: Output, wanted: Iterable[tuple[int, str, T]]
) -> Iterator[tuple[T, ImageFileDirectory_v2 | str | None]]:
    """Likewise the tags of TIFFs, of which nothing else is read; None of what is no TIFF."""
    return _each(_tags, output, wanted)


def _each(
    read: Callable[[Output, int, str], R], output: Output, wanted: Iterable[tuple[int, str, T]]
) -> Iterator[tuple[T, R]]:
    rest = iter(wanted)
    first = next(rest, None)
    if not first:
        return
    # embedded images are read by the row group or some rows, of which one at a time is enough in
    # memory, and frames of videos one after the other
    of_videos = any(map(output.record["identity"].get, ("fps", "every_nth", "keyframes")))
    is_row = parquet.is_place(first[1]) or lance_rows.is_place(first[1])
    readers = 1 if of_videos or is_row else READERS
    every = chain([first], rest)
    for (_, _, item), made in ahead(lambda one: read(output, one[0], one[1]), every, readers):
        yield item, made.result()


def read(output: Output, image_id: int, uri: str) -> bytes | str:
    """The bytes of one image, or the reason why there are none."""
    try:
        # by the rules of the run: who wrote its table may lack the rights of who reads it again
        config = output.record["config"]
        trusted, how = bool(config.get("trust_uris")), recorded(config)
        names = reading.Limits._fields
        limits = reading.Limits(*(config.get(n, getattr(Config, n)) for n in names))
        if (row := member(output, image_id, uri)) is not None:
            column = output.record["identity"].get("bytes_column")
            found = reading.read(row, output.input, column, limits, trusted, how)
            if not isinstance(found, str):
                return found if found is not None else "the bytes column is null in this row"
            uri = found
        fs, path = access.locate(uri, output.input, trusted, reading=how)
        # of what was read in windows, not all is to be in memory now
        limit = limits.max_object_bytes
        span = {"start": 0, "end": limit + 1} if config.get("tile") else {}
        data = bytes(objects.retrying(lambda: fs.cat_file(path, **span), attempts=3))
        return (
            data if len(data) <= limit or not span else f"over max_object_bytes, which is {limit}"
        )
    except (OSError, UsageError, pa.ArrowException) as error:
        return failures.reason(error)


def _tags(output: Output, image_id: int, uri: str) -> ImageFileDirectory_v2 | str | None:
    """The tags of one image, None if it is no TIFF, or the reason why they cannot be read."""
    try:
        if (row := member(output, image_id, uri)) is not None:
            if row["source_kind"] == FRAME:
                return None
            data = read(output, image_id, uri)
            return data if isinstance(data, str) else read_directory(lambda a, b: data[a:b])
        config = output.record["config"]
        trusted = bool(config.get("trust_uris"))
        fs, path = access.locate(uri, output.input, trusted, reading=recorded(config))

        def read_range(start: int, end: int) -> bytes:
            found = objects.retrying(lambda: fs.cat_file(path, start=start, end=end), attempts=3)
            if len(found) > end - start:
                raise OSError("the server does not support ranges")
            return bytes(found)

        return read_directory(read_range)
    except (OSError, UsageError, pa.ArrowException) as error:
        return failures.reason(error)
    except DecodeError as error:
        return str(error)


def pixels(record: Mapping[str, Any], data: bytes) -> np.ndarray:
    """[height, width, 3] RGB uint8, upright, as the run of that record had them.

    Raises:
        DecodeError: it is no such image any more.
    """
    config, identity = record["config"], record["identity"]
    samples = Samples(identity.get("depth_range"), identity.get("bands"))
    header = read_header(data, int(config.get("max_pixels", Config.max_pixels)), samples)
    return decode(header, identity.get("accept_truncated"))


def as_png(frame: bytes) -> bytes:
    """A frame of a video, which is read as a BMP, as a file that takes less room."""
    file = io.BytesIO()
    Image.open(io.BytesIO(frame)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def member(output: Output, image_id: int, uri: str) -> dict[str, Any] | None:
    """The image's row of the manifest, if it is no file of its own."""
    if "#" not in uri:
        return None
    number, place = output.manifest.place(image_id)
    part = output.part(number)
    if "source_uri" not in part.column_names:
        return None
    row: dict[str, Any] = part.select(MEMBER.names).slice(place, 1).to_pylist()[0]
    return row if row["source_uri"] is not None else None
