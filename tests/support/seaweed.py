"""A real S3 server on loopback, for as long as a `with` block."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions

KEY, SECRET = "testkey", "testsecret"
# a user without any right here
NO_KEY, NO_SECRET = "nokey", "nosecret"
# one who may read the first of these buckets, and read and write the second
NARROW_KEY, NARROW_SECRET = "narrowkey", "narrowsecret"
# what anyone may read, without credentials
PUBLIC = "public-input"
NARROW = ("narrow-input", "narrow-output")


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Any]:
    """Start SeaweedFS with its data in a folder; yields a boto3 client of it.

    The AWS variables of this process's environment point to the server, so that s3fs, boto3 and
    the workers of a Ray cluster started later find it.
    """
    identities = [
        _identity("all", KEY, SECRET, ["Admin", "Read", "Write", "List", "Tagging"]),
        _identity(
            "narrow",
            NARROW_KEY,
            NARROW_SECRET,
            [
                *(f"{action}:{NARROW[0]}" for action in ("List", "Read")),
                *(f"{action}:{NARROW[1]}" for action in ("List", "Read", "Write")),
            ],
        ),
        {"name": "anonymous", "actions": [f"{a}:{PUBLIC}" for a in ("List", "Read")]},
        _identity("none", NO_KEY, NO_SECRET, ["Read:elsewhere"]),
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    # another process may take a port between the look at it and its use
    for _ in range(5):
        server, client = _started(folder)
        if server:
            break
    else:
        raise RuntimeError(f"no S3 server: {(folder / 'log').read_text()[-2000:]}")
    try:
        yield client
    finally:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _started(folder: Path) -> tuple[subprocess.Popen[bytes] | None, Any]:
    """A server that can write, or None if it has ended, and a client of it."""
    port = free_port()
    ports = {name: free_port() for name in ("master", "volume", "filer", "admin")}
    command = [
        f"{sysconfig.get_path('scripts')}/weed",
        "-logtostderr=true",
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.port={port}",
        f"-s3.config={folder}/s3.json",
        *(f"-{name}.port={number}" for name, number in ports.items()),
        "-admin.ui=false",
        "-webdav=false",
        "-master.telemetry=false",
        "-volume.preStopSeconds=0",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        # each bucket takes a volume; by default there are as many as gigabytes are free on the disk
        "-master.volumeSizeLimitMB=1024",
        "-volume.max=1000",
    ]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client = boto3.client("s3")
    deadline = time.monotonic() + 60
    while server.poll() is None:
        try:  # an open port is not yet a server that can write
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"1")
            return server, client
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            if time.monotonic() > deadline:
                server.kill()
            time.sleep(0.2)
    return None, client


def free_port() -> int:
    """A port whose partner 10000 above, which SeaweedFS opens too, is free as well."""
    while True:
        with socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", 0))
            port = int(low.getsockname()[1])
            if port > 50000:
                continue
            try:
                high.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            return port


def _identity(name: str, key: str, secret: str, actions: list[str]) -> dict[str, Any]:
    credentials = [{"accessKey": key, "secretKey": secret}]
    return {"name": name, "credentials": credentials, "actions": actions}
