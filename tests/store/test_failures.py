"""What errors of stores are called, and which of them can pass."""

from __future__ import annotations

import ssl

import aiohttp
import botocore.exceptions

from pipeline.store import failures


def test_classes_of_errors() -> None:
    key = aiohttp.client_reqrep.ConnectionKey("h", 1, False, False, None, None, None)
    dns = aiohttp.ClientConnectorDNSError(key, OSError("no such host"))
    assert failures.classify(dns) == ("connection", True)
    tls = aiohttp.ClientConnectorCertificateError(key, ssl.SSLCertVerificationError("expired"))
    assert failures.classify(tls) == ("read_failed", False)
    gone = FileNotFoundError("bucket/Throttle SlowDown 429.jpg")
    assert failures.classify(gone) == ("not_found", False)
    slow = botocore.exceptions.ClientError({"Error": {"Code": "SlowDown"}}, "GetObject")
    assert failures.classify(slow) == ("throttled", True)
    endpoint = botocore.exceptions.EndpointConnectionError(endpoint_url="http://x")
    assert failures.classify(endpoint) == ("connection", True)
    nobody = botocore.exceptions.NoCredentialsError()
    assert failures.classify(nobody) == ("forbidden", False)
