"""The encoded bytes of an output's images, read again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.images.decode import Samples, decode, read_header
from pipeline.inputs import access
from pipeline.inputs.containers import reading
from pipeline.labels.output import Output
from pipeline.outputs.manifest import MEMBER
from pipeline.reading import recorded
from pipeline.store import failures, objects

READERS = 16
T = TypeVar("T")


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
    ahead: deque[tuple[T, Future[bytes | str]]] = deque()
    # embedded images are read by the row group, of which one at a time is enough in memory
    readers = 1 if output.record["identity"].get("bytes_column") else READERS
    with ThreadPoolExecutor(readers) as threads:
        for image_id, uri, item in wanted:
            ahead.append((item, threads.submit(read, output, image_id, uri)))
            if len(ahead) >= readers:
                first, future = ahead.popleft()
                yield first, future.result()
        for first, future in ahead:
            yield first, future.result()


def read(output: Output, image_id: int, uri: str) -> bytes | str:
    """The bytes of one image, or the reason why there are none."""
    try:
        # by the rules of the run: who wrote its table may lack the rights of who reads it again
        config = output.record["config"]
        trusted, how = bool(config.get("trust_uris")), recorded(config)
        limit = int(config.get("max_object_bytes", Config.max_object_bytes))
        if (row := _member(output, image_id, uri)) is not None:
            column = output.record["identity"].get("bytes_column")
            found = reading.read(row, output.input, column, limit, trusted, how)
            if not isinstance(found, str):
                return found if found is not None else "the bytes column is null here"
            uri = found
        fs, path = access.locate(uri, output.input, trusted, reading=how)
        # of what was read in windows, not all is to be in memory now
        span = {"start": 0, "end": limit + 1} if config.get("tile") else {}
        data = bytes(objects.retrying(lambda: fs.cat_file(path, **span), attempts=3))
        return data if len(data) <= limit or not span else f"over max_object_bytes, {limit}"
    except (OSError, UsageError, pa.ArrowException) as error:
        return failures.reason(error)


def pixels(record: Mapping[str, Any], data: bytes) -> np.ndarray:
    """[height, width, 3] RGB uint8, upright, as the run of that record had them.

    Raises:
        DecodeError: it is no such image any more.
    """
    config, identity = record["config"], record["identity"]
    samples = Samples(identity.get("depth_range"), identity.get("bands"))
    header = read_header(data, int(config.get("max_pixels", Config.max_pixels)), samples)
    return decode(header, identity.get("accept_truncated"))


def _member(output: Output, image_id: int, uri: str) -> dict[str, Any] | None:
    """The image's row of the manifest, if it is no file of its own."""
    if "#" not in uri:
        return None
    number, place = output.manifest.place(image_id)
    part = output.part(number)
    if "source_uri" not in part.column_names:
        return None
    row: dict[str, Any] = part.select(MEMBER.names).slice(place, 1).to_pylist()[0]
    return row if row["source_uri"] is not None else None
