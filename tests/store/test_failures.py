"""What errors of stores are called, and which of them can pass."""

from __future__ import annotations

import errno
import socket
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import botocore.exceptions
import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import StorageErrorCode
from gcsfs.retry import validate_response  # type: ignore[import-untyped]
from s3fs.errors import translate_boto_error

from pipeline.store import failures
from pipeline.store.web import HttpError


def test_classes_of_errors() -> None:
    key = aiohttp.client_reqrep.ConnectionKey("h", 1, False, False, None, None, None)
    dns = aiohttp.ClientConnectorDNSError(key, OSError("no such host"))
    assert failures.classify(dns) == ("connection", True)
    tls = aiohttp.ClientConnectorCertificateError(key, ssl.SSLCertVerificationError("expired"))
    assert failures.classify(tls) == ("read_failed", False)
    short = aiohttp.ClientPayloadError("cut")
    short.__cause__ = aiohttp.http_exceptions.ContentLengthError("cut")  # its code is no answer's
    assert failures.classify(short) == ("connection", True)
    gone = FileNotFoundError("bucket/Throttle SlowDown 429.jpg")
    assert failures.classify(gone) == ("not_found", False)
    slow = botocore.exceptions.ClientError({"Error": {"Code": "SlowDown"}}, "GetObject")
    assert failures.classify(slow) == ("throttled", True)
    endpoint = botocore.exceptions.EndpointConnectionError(endpoint_url="http://x")
    assert failures.classify(endpoint) == ("connection", True)
    assert failures.classify(OSError(errno.ESTALE, "Stale file handle")) == ("read_failed", True)
    assert failures.classify(OSError(errno.EISDIR, "Is a directory")) == ("read_failed", False)
    unknown = OSError(errno.EIO, "a code that s3fs does not know")
    unknown.__cause__ = botocore.exceptions.ClientError({"Error": {"Code": "New"}}, "GetObject")
    assert failures.classify(unknown) == ("read_failed", False)
    for status, found in ((503, ("server_error", True)), (404, ("not_found", False))):
        unsaid = FileNotFoundError("http://x/t.csv")
        unsaid.__cause__ = HttpError(status, "of fsspec's info")
        assert failures.classify(unsaid) == found
    nobody = botocore.exceptions.NoCredentialsError()
    assert failures.classify(nobody) == ("forbidden", False)


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (401, ("forbidden", False)),
        (403, ("forbidden", False)),
        (404, ("not_found", False)),
        (429, ("throttled", True)),
        (501, ("server_error", False)),
        (503, ("server_error", True)),
    ],
)
def test_answers_of_google_cloud_storage(status: int, found: tuple[str, bool]) -> None:
    with pytest.raises(Exception, match="said|k.jpg") as raised:
        validate_response(status, b'{"error": {"message": "said"}}', "b/o/k.jpg")
    assert failures.classify(raised.value) == found
    if found[0] == "forbidden":
        told = str(failures.unusable("read", "gs://b/k.jpg", raised.value))
        assert told.endswith("no permission; check the credentials and the policy of the bucket")


def test_answers_of_azure() -> None:
    error: Any = HttpResponseError("said")
    error.error_code = StorageErrorCode.BLOB_ARCHIVED
    assert failures.classify(error) == ("archived", False)
    assert "restore it" in failures.reason(error) and not failures.rejects_credentials(error)
    error.status_code, error.error_code = 503, StorageErrorCode.SERVER_BUSY
    assert failures.classify(error) == ("throttled", True)
    error.error_code, error.status = StorageErrorCode.AUTHENTICATION_FAILED, 403
    assert failures.classify(error) == ("forbidden", False) and failures.rejects_credentials(error)


def test_what_is_said_of_requests_that_are_all_refused() -> None:
    clock = f"the store says that the clock of the machine {socket.gethostname()} is wrong; set it"
    expired = "PermissionError: has expired; renew or correct the credentials"
    for code, told in (("RequestTimeTooSkewed", clock), ("ExpiredToken", expired)):
        response: Any = {"Error": {"Code": code, "Message": "has expired"}}
        response["ResponseMetadata"] = {"HTTPStatusCode": 403}
        cause = botocore.exceptions.ClientError(response, "GetObject")
        error = translate_boto_error(cause)
        error.__cause__ = cause
        assert failures.rejects_credentials(error)  # which ends the run, and not each image
        assert str(failures.unusable("read", "s3://b/x", error)) == f"cannot read s3://b/x: {told}"


def test_of_a_local_path_the_rights_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    told = {
        "file": f"change the rights of the file {tmp_path}/file, or give another one",
        "hidden/file": f"change the rights of the folder {tmp_path}, or give another one",
    }
    for name, wanted in told.items():
        denied = PermissionError(errno.EACCES, "Permission denied", f"{tmp_path}/{name}")
        said = str(failures.unusable("read", f"{tmp_path}/{name}", denied))
        assert said == f"cannot read {tmp_path}/{name}: no permission; {wanted}"
    relative = PermissionError(errno.EACCES, "Permission denied", "hidden/file")
    assert str(failures.unusable("write", "hidden/file", relative)).endswith(told["hidden/file"])
    bucket = failures.unusable("read", "s3://b/x", PermissionError("Access Denied"))
    assert "check the credentials and the policy of the bucket" in str(bucket)
