"""Files on any store: which file system a URL means, atomic writes, what an error means."""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import fsspec
import pyarrow as pa
import tenacity
from fsspec import AbstractFileSystem

from pipeline.config import UsageError

log = logging.getLogger(__name__)
T = TypeVar("T")
# error codes of responses, in part
THROTTLED = ("SlowDown", "Throttl", "TooManyRequests", "RequestLimitExceeded")
# classes of exceptions, base classes included: of Python, aiohttp, botocore
CONNECTION = {"ConnectionError", "InterruptedError", "ClientConnectionError", "ClientPayloadError",
              "HTTPClientError", "IncompleteRead", "ResponseStreamingError"}  # fmt: skip
CERTIFICATE = {"SSLError", "ClientSSLError", "SSLCertVerificationError"}


def protocol(url: str) -> str:
    """`s3` of `s3://bucket/key`; `file` for a path."""
    return url.split("://", 1)[0] if "://" in url else "file"


def filesystem(url: str, connections: int = 64) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL, and the URL's path on it.

    S3 takes its endpoint, region and credentials from the usual AWS environment and profile.
    Retries of the layers below are off: `retrying` is the only one, so attempts can be counted.

    Raises:
        UsageError: no installed package serves the URL's protocol.
    """
    kind = protocol(url)
    options: dict[str, Any] = {"use_listings_cache": False} if kind != "file" else {}
    if kind in ("s3", "s3a"):
        # max_concurrency above 1 costs a HEAD request before each read
        botocore = {"retries": {"total_max_attempts": 1}, "max_pool_connections": connections}
        options |= {"max_concurrency": 1, "config_kwargs": botocore}
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


def url_of(fs: AbstractFileSystem, path: str) -> str:
    """The URL that a user would write for a path: local paths stay paths."""
    return path if is_local(fs) else str(fs.unstrip_protocol(path))


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


def _response_code(error: BaseException) -> str:
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def printable(text: object, limit: int = 500) -> str:
    """At most `limit` characters, shortened in the middle, all visible: names may hold anything."""
    whole = str(text)
    if len(whole) > limit:
        end = limit * 2 // 3  # the end of a path says more than its start
        whole = f"{whole[: limit - end - 1]}…{whole[-end:]}"
    hidden = "\N{REPLACEMENT CHARACTER}"
    return "".join(c if c.isprintable() or c == "\xa0" else hidden for c in whole)


def explain(error: BaseException) -> str:
    """An error's message in one line of at most 500 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


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


# 1, 2, 4 ... seconds, each with up to one more
RETRY_WAIT = tenacity.wait_exponential_jitter(initial=1, max=30, jitter=1)


def retrying(action: Callable[[], T], attempts: int = 7) -> T:
    """The action's result; what can pass is tried again after a growing, jittered pause.

    Raises:
        OSError: it failed for good; also for what the file systems do not raise as one.
        pyarrow.ArrowException: the content is not what it should be.
    """
    retry = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(attempts),
        wait=RETRY_WAIT,
        retry=tenacity.retry_if_exception(lambda error: classify(error)[1]),
        before_sleep=_say,
        reraise=True,
    )
    try:
        return retry(action)
    except (OSError, pa.ArrowException):
        raise
    except Exception as error:  # each file system has its own
        raise OSError(explain(error)) from error


def _say(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if error and state.attempt_number > 1:
        log.warning("the store fails (%s); trying again", explain(error))


def get(fs: AbstractFileSystem, path: str) -> bytes | None:
    """The object's bytes, or None where there is none."""
    try:
        return bytes(retrying(lambda: fs.cat_file(path)))
    except FileNotFoundError:
        return None


def put(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    """Write an object so that a reader sees all of it or nothing."""
    if is_local(fs):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # beside its target, so that the rename stays on one disk; the dot hides it from readers
        temporary = f"{os.path.dirname(path)}/.{uuid.uuid4().hex}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
    else:
        retrying(lambda: fs.pipe_file(path, data))


def create(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Write an object only if there is none; False if there was one."""
    if is_local(fs):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{os.path.dirname(path)}/.{uuid.uuid4().hex}.tmp"
        with open(temporary, "wb") as file:
            file.write(data)
        try:
            os.link(temporary, path)
            return True
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
    try:
        retrying(lambda: fs.pipe_file(path, data, mode="create"))
        return True
    except OSError as error:
        if isinstance(error, FileExistsError) or http_status(error) in (409, 412):
            return False
        raise


def delete(fs: AbstractFileSystem, path: str) -> None:
    """Remove an object; one that is not there is no error."""
    with contextlib.suppress(FileNotFoundError):
        retrying(lambda: fs.rm_file(path))


def names(fs: AbstractFileSystem, folder: str) -> list[str]:
    """The sorted names of the objects directly in a folder; none if it does not exist."""
    try:
        entries = retrying(lambda: fs.ls(folder, detail=False))
    except FileNotFoundError:
        return []
    # a store can hold an empty object with the folder's own name
    paths = {str(entry).rstrip("/") for entry in entries} - {folder.rstrip("/")}
    return sorted(path.rsplit("/", 1)[-1] for path in paths)
