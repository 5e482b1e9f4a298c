"""What a user may name: a path or URL of an input, an output, a file."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from pipeline.errors import UsageError

# URLs of fsspec that reach through one protocol into another
CHAINED = re.compile(
    r"(zip|tar|libarchive|dir|reference|simplecache|filecache|blockcache|cached)(::|://)"
    r"|[a-z][a-z0-9+.-]*::[a-z][a-z0-9+.-]*://",
    re.IGNORECASE,
)
# `s3:/bucket`, which a shell or a path library makes of `s3://bucket`
ONE_SLASH = re.compile(r"(s3a?|gs|gcs|az|abfss?|https?|file|hf):/(?!/)", re.IGNORECASE)
WEIGHTS = ("COCO_V1", "DEFAULT")


def checked_url(name: str, value: Any) -> str:
    """A URL with its scheme in lower case, a path (also one of `pathlib`) made absolute.

    Raises:
        UsageError: it is neither, or holds credentials, or is a chain of URLs.
    """
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(value, str) or not value:
        raise UsageError(f"{name} must be a path or URL, not {value!r}")
    if found := ONE_SLASH.match(value):
        # not the URL itself, which may hold credentials
        raise UsageError(
            f"{name} has only one slash after its scheme: write {found[0]}/, not {found[0]}"
        )
    if CHAINED.match(value):
        kind = value.partition(":")[0]
        raise UsageError(
            f"{name} is a chained URL of fsspec ({kind}:...), which is not supported: unpack an "
            "archive first, and give the URL or path of its content"
        )
    if "://" in value:
        try:
            parts = urlsplit(value)
        except ValueError as error:
            raise UsageError(f"{name} is not a URL: {value!r} ({error})") from error
        # in Azure's URLs a container stands before the @
        if parts.password or (parts.username and parts.scheme in ("s3", "s3a", "http", "https")):
            raise UsageError(f"{name} holds credentials; give them in the environment instead")
        scheme, _, rest = value.partition("://")
        return _path(name, value) if parts.scheme == "file" else f"{scheme.lower()}://{rest}"
    if name == "weights" and (value in WEIGHTS or value.startswith("random:")):
        return "COCO_V1" if value == "DEFAULT" else value
    if name == "weights" and re.fullmatch("[A-Z][A-Z0-9_]+", value) and not os.path.exists(value):
        raise UsageError(
            "weights must be COCO_V1, the path or URL of a checkpoint, or random:SEED, not "
            f"{value!r}"
        )
    return os.path.abspath(os.path.expanduser(value))


def _path(name: str, url: str) -> str:
    """The path that a `file://` URL means; the URL itself where no text has that path's bytes."""
    path = path_of(url)
    if not path.startswith("/"):
        raise UsageError(f"{name} must begin with file:/// or be a path, not {url!r}")
    try:
        path.encode()
    except UnicodeEncodeError:
        return url
    return os.path.abspath(path)


def path_of(url: str) -> str:
    """The path of a `file://` URL, whose escapes are resolved.

    >>> path_of("file:///a%20b#1"), path_of("FILE://localhost/a")
    ('/a b#1', '/a')
    """
    rest = url.partition("://")[2].removeprefix("localhost")
    return os.fsdecode(unquote_to_bytes(rest))
