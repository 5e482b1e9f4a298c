"""URLs of any store: which file system they mean, and what its errors mean."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import fsspec
from fsspec import AbstractFileSystem

from pipeline.config import UsageError

# error codes of responses, in part
THROTTLED = ("SlowDown", "Throttl", "TooManyRequests", "RequestLimitExceeded")
# of credentials that no request will be granted with any more
REJECTED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired",
            "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"}  # fmt: skip
# classes of exceptions, base classes included: of Python, aiohttp, botocore
CONNECTION = {"ConnectionError", "InterruptedError", "ClientConnectionError", "ClientPayloadError",
              "HTTPClientError", "IncompleteRead", "ResponseStreamingError",
              "ResponseParserError", "FlexibleChecksumError"}  # fmt: skip
CERTIFICATE = {"SSLError", "ClientSSLError", "SSLCertVerificationError"}
# an http URL's scheme, user, host and path, query: the second and the last may be secrets
SECRETS = re.compile(r"(https?://)(?:[^\s/?#@]*@)?([^\s?]*)(?:\?\S*)?", re.IGNORECASE)


class UriError(OSError):
    """A URI that cannot or may not be read, whatever the store would say; with its code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.strerror = message  # what aiohttp shows


def protocol(url: str) -> str:
    """`s3` of `s3://bucket/key`; `file` for a path."""
    return url.split("://", 1)[0] if "://" in url else "file"


def filesystem(
    url: str, connections: int = 64, http_client: Callable[..., Awaitable[Any]] | None = None
) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL, and the URL's path on it.

    S3 takes its endpoint, region and credentials from the usual AWS environment and profile.
    Retries of the layers below are off: `objects.retrying` and those of fetch are the only ones,
    so attempts can be counted.

    Args:
        url: a path as it stands, or a URL; of `file://` URLs the escapes are resolved.
        connections: to an S3 endpoint, at most.
        http_client: makes the `aiohttp.ClientSession` for http and https; a module's function.

    Raises:
        UsageError: no installed package serves the URL's protocol.
    """
    kind = protocol(url)
    if url.startswith("file://"):
        url = os.fsdecode(unquote_to_bytes(url.removeprefix("file://").removeprefix("localhost")))
    options: dict[str, Any] = {"use_listings_cache": False} if kind != "file" else {}
    if kind in ("s3", "s3a"):
        # max_concurrency above 1 costs a HEAD request before each read
        botocore = {"retries": {"total_max_attempts": 1}, "max_pool_connections": connections}
        options |= {"max_concurrency": 1, "config_kwargs": botocore}
    if kind in ("http", "https") and http_client:
        options["get_client"] = http_client
    try:
        if kind not in ("file", "s3", "s3a"):  # some keep host or container in the URL
            options |= fsspec.get_filesystem_class(kind)._get_kwargs_from_urls(url)
        fs = fsspec.filesystem(kind, **options)
        path = str(fs._strip_protocol(url))
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(f"cannot open {public(url)}: {error}") from error
    if kind in ("s3", "s3a"):
        fs.retries = 1
    if not path:
        raise UsageError(f"{url} names no bucket or folder")
    return fs, path


def public(url: str) -> str:
    """The URL without the query in which an http URL may carry a signature."""
    return url.partition("?")[0] if protocol(url) in ("http", "https") else url


def without_secrets(text: str) -> str:
    """A text that may hold http URLs, without their queries and user names."""
    return SECRETS.sub(r"\1\2", text)


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


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def http_status(error: BaseException) -> int | None:
    """The status of the HTTP response behind an error, if there is one."""
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            status = getattr(cause, "status", None)
        if isinstance(status, int):
            return status
    return None


def classify(error: BaseException) -> tuple[str, bool]:
    """The stable code of a storage error, and whether it can pass if tried again.

    Looks at the HTTP status and error code of the underlying response where there is one, for
    file systems hide them behind an OSError.
    """
    for cause in _causes(error):
        if isinstance(cause, UriError):
            return cause.code, False
    status = http_status(error)
    names = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    if status == 429 or any(word in _response_code(error) for word in THROTTLED):
        return "throttled", True
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return "not_found", False
    if status in (401, 403) or names & {"PermissionError", "NoCredentialsError"}:
        return "forbidden", False
    if status == 408 or names & {"TimeoutError", "ConnectTimeoutError", "ReadTimeoutError"}:
        return "timeout", True
    if status is not None and status >= 500:
        return "server_error", True
    if status is None and names & CONNECTION and not names & CERTIFICATE:
        return "connection", True
    return "read_failed", False


def rejects_credentials(error: BaseException) -> bool:
    """Whether a store says that the credentials are wrong or have expired, whatever is asked."""
    return _response_code(error) in REJECTED


def _response_code(error: BaseException) -> str:
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def printable(text: object, limit: int = 500) -> str:
    """At most `limit` characters, shortened in the middle, all visible: names may hold anything.

    Without the queries of http URLs, which may hold signatures.
    """
    whole = without_secrets(str(text))
    if len(whole) > limit:
        end = limit * 2 // 3  # the end of a path says more than its start
        whole = f"{whole[: limit - end - 1]}…{whole[-end:]}"
    hidden = "\N{REPLACEMENT CHARACTER}"
    return "".join(c if c.isprintable() or c == "\xa0" else hidden for c in whole)


def explain(error: BaseException) -> str:
    """An error's message in one line of at most 500 characters, without the queries of URLs."""
    return printable(" ".join(f"{type(error).__name__}: {error}".split()))


def unusable(action: str, url: str, error: BaseException) -> UsageError:
    """The clear line for what cannot be read or written."""
    reasons = {
        "not_found": "it does not exist",
        "forbidden": "no permission; check the credentials and the policy of the bucket",
    }
    if isinstance(error, UsageError):
        return error
    code, _ = classify(error)
    return UsageError(f"cannot {action} {public(url)}: {reasons.get(code, explain(error))}")
