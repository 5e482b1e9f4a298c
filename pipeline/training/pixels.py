"""Pixels of the images that are trained on, read while those before are worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.images.decode import DecodeError, Samples, decode, read_header
from pipeline.inputs import access
from pipeline.store import failures, objects

READERS = 8


def read(config: Config, uri: str) -> np.ndarray | str:
    """The pixels of one image as a run has them, or the reason why there are none.

    Args:
        config: how images are read; its `input` is what names them.
        uri: of the image.

    Returns:
        [height, width, 3] RGB uint8, upright; or one line.
    """
    try:
        data = _encoded(config, uri)
        if len(data) > config.max_object_bytes:
            return f"over max_object_bytes, {config.max_object_bytes}"
        samples = Samples(config.depth_range, config.bands)
        header = read_header(data, config.max_pixels, samples)
        return decode(header, config.accept_truncated)
    except DecodeError as error:
        return f"{error.code}: {error}"
    except FileNotFoundError:
        return "it does not exist"
    except (OSError, UsageError) as error:
        return failures.reason(error)


def _encoded(config: Config, uri: str) -> bytes:
    """The object, or one byte more of it than is allowed."""
    fs, path = access.locate(uri, config.input, config.trust_uris, reading=config.reading)
    span = {"start": 0, "end": config.max_object_bytes + 1}
    try:
        return bytes(objects.retrying(lambda: fs.cat_file(path, **span), config.fetch_attempts))
    except OSError as error:
        if failures.http_status(error) == 416:  # what stores answer of an empty object
            return b""
        raise


def read_many(config: Config, uris: Iterable[str]) -> Iterator[np.ndarray | str]:
    """What `read` gives of each, in the same order; `READERS` at a time."""
    ahead: deque[Future[np.ndarray | str]] = deque()
    with ThreadPoolExecutor(READERS) as threads:
        for uri in uris:
            ahead.append(threads.submit(read, config, uri))
            if len(ahead) >= READERS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
