"""URLs of any store: which file system they mean, and how they are shown."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote_from_bytes

import fsspec
from fsspec import AbstractFileSystem

from pipeline.errors import UsageError
from pipeline.locations import path_of
from pipeline.reading import Reading
from pipeline.store import web

# a server that does not say so much in this time is asked once more, or is not there
CONNECT_SECONDS = 6.0
AZURE = "; set AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT_NAME"
# it logs a traceback of each error that it raises
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)


def protocol(url: str) -> str:
    """`s3` of `s3://bucket/key`, in lower case; `file` for a path."""
    return url.split("://", 1)[0].lower() if "://" in url else "file"


def folded(url: str) -> str:
    """The URL with its scheme in lower case: case tells nothing there (RFC 3986, section 3.1)."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme.lower()}://{rest}" if mark else url


def filesystem(
    url: str,
    connections: int = 64,
    http_client: Callable[..., Awaitable[Any]] | None = None,
    reading: Reading | None = None,
) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL, and the URL's path on it.

    S3 takes its endpoint, region and credentials from the usual AWS environment and profile.
    Of S3 and the web, retries of the layers below are off: `objects.retrying` and those of fetch
    are the only ones, so attempts can be counted.

    Args:
        url: a path as it stands, or a URL; of `file://` URLs the escapes are resolved.
        connections: to an S3 endpoint, at most.
        http_client: makes the `aiohttp.ClientSession` for http and https in the place of
            `web.client`; a module's function that takes the same.
        reading: how it is read, where it is not written.

    Raises:
        UsageError: no installed package serves the URL's protocol.
    """
    kind, url, reading = protocol(url), folded(url), reading or Reading()
    if url.startswith("file://"):
        url = path_of(url)
    options: dict[str, Any] = {"use_listings_cache": False} if kind != "file" else {}
    if kind in ("s3", "s3a"):
        options |= {**_of_s3(connections), **reading.s3_options}
    if kind in ("http", "https"):
        options["get_client"] = http_client or web.client
        options["client_kwargs"] = {"headers": dict(reading.http_headers)}
    try:
        if kind not in ("file", "s3", "s3a"):  # some keep host or container in the URL
            options |= fsspec.get_filesystem_class(kind)._get_kwargs_from_urls(url)
        fs = fsspec.filesystem(kind, **options)
        path = str(fs._strip_protocol(url))
    except (ValueError, TypeError, ImportError) as error:
        hint = AZURE if kind in ("az", "abfs", "abfss") and isinstance(error, ValueError) else ""
        raise UsageError(f"cannot open {public(url)}: {error}{hint}") from error
    if kind in ("s3", "s3a"):
        fs.retries = 1
    if not path:
        raise UsageError(f"{url} names no bucket or folder")
    return fs, path


def _of_s3(connections: int) -> dict[str, Any]:
    botocore = {
        "retries": {"total_max_attempts": 1},
        "max_pool_connections": connections,
        "connect_timeout": CONNECT_SECONDS,
    }
    # max_concurrency above 1 costs a HEAD request before each read
    return {"max_concurrency": 1, "config_kwargs": botocore}


def public(url: str) -> str:
    """The URL without the query in which an http URL may carry a signature."""
    return url.partition("?")[0] if protocol(url) in ("http", "https") else url


def without_slash(url: str) -> str:
    """The URL of the same objects without slashes at its end, which mean something on the web only.

    An object and the folder of its name are not told apart by one: both are read.
    """
    return url if protocol(url) in ("http", "https") else url.rstrip("/") or "/"


def url_of(fs: AbstractFileSystem, path: str) -> str:
    """The URL that a user would write for a path: local paths stay paths, if they are UTF-8."""
    if not is_local(fs):
        return str(fs.unstrip_protocol(path))
    try:
        path.encode()
        return path
    except UnicodeEncodeError:
        return f"file://{quote_from_bytes(os.fsencode(path))}"


def is_local(fs: AbstractFileSystem) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
