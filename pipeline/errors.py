"""What ends a command, a run or an image, and what each is called."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple


class UsageError(ValueError):
    """What was asked for cannot be done; the message says what to change. Exit code 2."""


class RunError(RuntimeError):
    """The run could not be finished; what is committed is kept. Exit code 1."""


class Code(StrEnum):
    """Why an image has an error row: the values of `error_code`. Users filter by them, so they
    stay.
    """

    # of a read
    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    ARCHIVED = "archived"
    TIMEOUT = "timeout"
    THROTTLED = "throttled"
    SERVER_ERROR = "server_error"
    CONNECTION = "connection"
    READ_FAILED = "read_failed"
    OBJECT_TOO_LARGE = "object_too_large"
    NO_URI = "no_uri"
    NO_BYTES = "no_bytes"
    INVALID_URI = "invalid_uri"
    URI_TOO_LONG = "uri_too_long"
    URI_NOT_ALLOWED = "uri_not_allowed"
    UNKNOWN_PROTOCOL = "unknown_protocol"
    CONTAINER_DAMAGED = "container_damaged"
    CONTAINER_CHANGED = "container_changed"
    MEMBER_UNREADABLE = "member_unreadable"
    ENCRYPTED = "encrypted"
    # of a decoding
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_MANY_PIXELS = "too_many_pixels"
    UNSUPPORTED_MODE = "unsupported_mode"
    DECODE_TIMEOUT = "decode_timeout"
    # of a forward; memory can be short in a decoding, too
    OUT_OF_MEMORY = "out_of_memory"
    TOO_THIN = "too_thin"
    FORWARD_FAILED = "forward_failed"
    # of a process
    KILLED_WORKER = "killed_worker"


# `error_stage`, and the codes that it can come with
STAGE_CODES: dict[str, tuple[Code, ...]] = {
    "fetch": (
        Code.NOT_FOUND,
        Code.FORBIDDEN,
        Code.ARCHIVED,
        Code.TIMEOUT,
        Code.THROTTLED,
        Code.SERVER_ERROR,
        Code.CONNECTION,
        Code.READ_FAILED,
        Code.OBJECT_TOO_LARGE,
        Code.NO_URI,
        Code.NO_BYTES,
        Code.INVALID_URI,
        Code.URI_TOO_LONG,
        Code.URI_NOT_ALLOWED,
        Code.UNKNOWN_PROTOCOL,
        Code.CONTAINER_DAMAGED,
        Code.CONTAINER_CHANGED,
        Code.MEMBER_UNREADABLE,
        Code.ENCRYPTED,
        Code.KILLED_WORKER,
    ),
    "decode": (
        Code.EMPTY,
        Code.NOT_AN_IMAGE,
        Code.TRUNCATED,
        Code.CORRUPT,
        Code.TOO_MANY_PIXELS,
        Code.UNSUPPORTED_MODE,
        Code.OUT_OF_MEMORY,
        Code.DECODE_TIMEOUT,
    ),
    "forward": (Code.TOO_THIN, Code.OUT_OF_MEMORY, Code.FORWARD_FAILED),
    "replica": (Code.KILLED_WORKER,),
}


class Failure(NamedTuple):
    """Why an image has no detections, as its row says it.

    Attributes:
        stage: `error_stage`, a key of `STAGE_CODES`.
        code: `error_code`, one of the stage's codes.
        message: `error_message`, one line.
    """

    stage: str
    code: str
    message: str


def nearest(name: str, valid: Collection[str]) -> str:
    """`name` as an "unknown" complaint that ends in the nearest valid name, if any is near.

    >>> nearest("--ouput", ["--input", "--output"])
    "'--ouput' (did you mean '--output'?)"
    """
    close = difflib.get_close_matches(name, valid, n=1)
    return f"{name!r}" + (f" (did you mean {close[0]!r}?)" if close else "")


def nearest_class(name: str, valid: Collection[str]) -> str:
    """As `nearest`, with some of the classes that there are where none is near.

    >>> nearest_class("cat", ["dog"]), nearest_class("dgo", ["dog"])
    ("'cat' (known are 'dog')", "'dgo' (did you mean 'dog'?)")
    """
    told = nearest(name, valid)
    if told != repr(name) or not valid:
        return told
    some = ", ".join(map(repr, sorted(valid)[:10]))
    return f"{told} (known are {some}{', ...' if len(valid) > 10 else ''})"
