"""What the errors of stores mean: by which code, and whether it can pass."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

from pipeline.errors import Code, UsageError
from pipeline.store.urls import protocol, public
from pipeline.store.web import HttpError, Unranged
from pipeline.words import explain, printable

# error codes of responses, in part
THROTTLED = ("SlowDown", "Throttl", "TooManyRequests", "RequestLimitExceeded", "ServerBusy")
# of a machine whose clock is far from the store's: what it signs is not granted
SKEWED = "RequestTimeTooSkewed"
# of credentials that no request will be granted with any more
REJECTED = {
    SKEWED,
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "TokenRefreshRequired",
    "InvalidToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
}
# of objects in GLACIER, DEEP_ARCHIVE and the archive tiers of INTELLIGENT_TIERING, and of Azure
ARCHIVED = ("InvalidObjectState", "BlobArchived")
# classes of exceptions, base classes included: of Python, aiohttp, botocore, httpx
CONNECTION = {
    "ConnectionError",
    "InterruptedError",
    "ClientConnectionError",
    "ClientPayloadError",
    "HTTPClientError",
    "IncompleteRead",
    "ResponseStreamingError",
    "ResponseParserError",
    "FlexibleChecksumError",
    "NetworkError",
    "RemoteProtocolError",
}
TIMEOUT = {"TimeoutError", "ConnectTimeoutError", "ReadTimeoutError", "TimeoutException"}
# of a network disk that is away for a while, and of too few file handles
PASSING = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EAGAIN, errno.EMFILE, errno.ENFILE}
CERTIFICATE = {"SSLError", "ClientSSLError", "SSLCertVerificationError"}


class UriError(OSError):
    """A URI that cannot or may not be read, whatever the store would say; with its code."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.strerror = message  # what aiohttp shows

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, str(self))


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
            status = getattr(cause, "status", None) or getattr(response, "status_code", None)
        if type(cause).__module__.startswith(("gcsfs.", "google.")):
            status = getattr(cause, "code", None)
        if isinstance(status, int):
            return status
    return None


def classify(error: BaseException) -> tuple[Code, bool]:
    """The stable code of a storage error, and whether it can pass if tried again.

    Looks at the HTTP status and error code of the underlying response where there is one, for
    file systems hide them behind an OSError.
    """
    for cause in _causes(error):
        if isinstance(cause, UriError):
            return cause.code, False
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, HttpError):
        error = error.__cause__  # fsspec says so of any answer that is an error
    status, names = http_status(error), _names(error)
    if status == 429 or any(word in _response_code(error) for word in THROTTLED):
        return Code.THROTTLED, True
    if _response_code(error) in ARCHIVED:
        return Code.ARCHIVED, False
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return Code.NOT_FOUND, False
    is_refused = status in (401, 403) or str(error).startswith("Forbidden: ")  # of gcsfs
    if is_refused or names & {"PermissionError", "NoCredentialsError"}:
        return Code.FORBIDDEN, False
    if status == 408 or names & TIMEOUT:
        return Code.TIMEOUT, True
    if status is not None and status >= 500:
        return Code.SERVER_ERROR, status != 501  # what is not implemented
    if status is None and names & CONNECTION and not names & CERTIFICATE:
        return Code.CONNECTION, True
    # s3fs, too, says EIO, of answers that it does not know
    of_store = status is not None or _response_code(error)
    return Code.READ_FAILED, getattr(error, "errno", None) in PASSING and not of_store


def _names(error: BaseException) -> set[str]:
    """Of the classes of an error and its causes, base classes included."""
    return {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}


def is_unranged(error: BaseException) -> bool:
    """Whether a server that gives no ranges was asked for one of a file that is too large."""
    return any(isinstance(cause, Unranged) for cause in _causes(error))


def rejects_credentials(error: BaseException) -> bool:
    """Whether a store says that the credentials are wrong or have expired, whatever is asked, or
    that the clock of the machine that signed by them is wrong.
    """
    return _response_code(error) in REJECTED


def _response_code(error: BaseException) -> str:
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        if code := getattr(cause, "error_code", None):  # an enumeration of Azure's
            return str(getattr(code, "value", code))
    return ""


def reason(error: BaseException) -> str:
    """What happened, in one line, and what to do where only the user can do it."""
    if _response_code(error) in ARCHIVED:
        return "archived, in a storage class such as GLACIER; restore it, then retry the failures"
    if _response_code(error) == SKEWED:
        return (
            f"the store says that the clock of the machine {socket.gethostname()} is wrong; set it"
        )
    if "NoCredentialsError" in _names(error):
        return (
            "no credentials for S3; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE "
            "or a role, or give --s3-anonymous to read a public bucket"
        )
    for cause in _causes(error):
        if isinstance(cause, HttpError):
            return explain(cause).removeprefix(f"{type(cause).__name__}: ")
    return explain(error)


def _forbidden(error: BaseException) -> str:
    place = next(
        (e.filename for e in _causes(error) if isinstance(e, OSError) and e.filename), None
    )
    if place is None:  # only the operating system says of what
        return "no permission; check the credentials and the policy of the bucket"
    place = os.path.abspath(os.fsdecode(place))
    while not os.path.lexists(place):  # what is in a folder that is closed cannot be seen
        place = os.path.dirname(place)
    kind = "folder" if os.path.isdir(place) else "file"
    return f"no permission; change the rights of the {kind} {place}, or give another one"


def unusable(action: str, url: str, error: BaseException) -> UsageError:
    """The clear line for what cannot be read or written."""
    if isinstance(error, UsageError):
        return error
    code, _ = classify(error)
    why = reason(error)
    if code is Code.NOT_FOUND:
        why = "it does not exist"
    elif isinstance(error, FileExistsError | NotADirectoryError):
        why = "there is a file where a folder should be; give another name"
    elif isinstance(error, IsADirectoryError):
        why = "it is a folder; give the file in it"
    elif code is Code.FORBIDDEN and why == explain(error):
        renew = f"{why}; renew or correct the credentials"
        why = renew if rejects_credentials(error) else _forbidden(error)
    elif code in (Code.CONNECTION, Code.TIMEOUT) and protocol(url) in ("s3", "s3a"):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        named = f", which is {printable(endpoint, 200)}," if endpoint else ""
        why += f"; is the network up, and AWS_ENDPOINT_URL{named} right?"
    elif code in (Code.CONNECTION, Code.TIMEOUT) and protocol(url) == "hf":
        why = (
            f"{why.rstrip('.')}; without a network, give the folder of a downloaded copy, such as "
            "~/.cache/huggingface/hub/datasets--OWNER--NAME/snapshots/COMMIT"
        )
    return UsageError(f"cannot {action} {public(url)}: {why}")
