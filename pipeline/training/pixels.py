"""Pixels of the images that are trained on, read while those before are worked on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from fsspec import AbstractFileSystem

from pipeline.config import PIXELS, Config
from pipeline.errors import UsageError
from pipeline.images.decode import DecodeError, Samples, decode, read_header
from pipeline.inputs import access
from pipeline.inputs.containers import reading
from pipeline.labels.ahead import ahead
from pipeline.labels.truth import Truth
from pipeline.store import failures, objects, urls

READERS = 8


@dataclass(frozen=True)
class Image:
    """An image of a training.

    Attributes:
        uri: of the image.
        member: its columns of `MEMBER`, where it is in a container.
        copy: URL of a file of the training with its bytes, where it has one.
    """

    uri: str
    member: Mapping[str, Any] | None = None
    copy: str | None = None


def as_the_run(config: Config, truths: Iterable[Truth]) -> Config:
    """The configuration with those of `PIXELS` that it leaves open as the run of the corrections
    had them: the boxes are of what that run saw.

    Raises:
        UsageError: the corrections are of runs that differ in one.
    """
    taken: dict[str, Any] = {}
    runs = [run for truth in truths for run in truth.reads]
    for name in (name for name in PIXELS if getattr(config, name) is None):
        for value in (run.get(name) for run in runs):
            if taken.setdefault(name, value) != value:
                raise UsageError(
                    f"the corrections come from runs that differ in {name} ({taken[name]!r} and "
                    f"{value!r}): train on one at a time, or give the {name} of all in --config"
                )
    return replace(config, **taken)


def read(config: Config, image: Image) -> np.ndarray | str:
    """The pixels of one image as a run has them, or the reason why there are none.

    Args:
        config: how images are read; its `input` is what names them.
        image: which one.

    Returns:
        [height, width, 3] RGB uint8, upright; or one line.
    """
    try:
        data = encoded(config, image)
        if isinstance(data, str):
            return data
        samples = Samples(config.depth_range, config.bands)
        header = read_header(data, config.max_pixels, samples)
        return decode(header, config.accept_truncated)
    except DecodeError as error:
        return f"{error.code}: {error}"


def encoded(config: Config, image: Image) -> bytes | str:
    """The bytes of one image, or the reason why there are none."""
    limit = config.max_object_bytes
    try:
        if image.copy:
            return _object(*urls.filesystem(image.copy), config)
        found: bytes | str | None = image.uri
        if image.member:
            limits = reading.Limits(limit, config.max_pixels, config.fetch_timeout)
            column, trusted = config.bytes_column, config.trust_uris
            found = reading.read(
                image.member, config.input, column, limits, trusted, config.reading
            )
        if isinstance(found, str):  # of a file, which a row of a table may name, too
            trusted, how = config.trust_uris, config.reading
            found = _object(*access.locate(found, config.input, trusted, reading=how), config)
        if found is None:
            return "the bytes column is null in this row"
        return found if len(found) <= limit else f"over max_object_bytes, which is {limit}"
    except FileNotFoundError:
        return "it does not exist"
    except (OSError, UsageError, pa.ArrowException) as error:
        return failures.reason(error)


def _object(fs: AbstractFileSystem, path: str, config: Config) -> bytes:
    """The object, or one byte more of it than is allowed."""
    span = {"start": 0, "end": config.max_object_bytes + 1}
    try:
        return bytes(objects.retrying(lambda: fs.cat_file(path, **span), config.fetch_attempts))
    except OSError as error:
        if failures.http_status(error) == 416:  # what stores answer of an empty object
            return b""
        raise


def read_many(config: Config, images: Iterable[Image]) -> Iterator[np.ndarray | str]:
    """What `read` gives of each, in the same order; `READERS` at a time."""
    for _, pixels in ahead(partial(read, config), images, READERS):
        yield pixels.result()
