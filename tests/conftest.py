"""The real parts that tests share: an S3 server, a Ray cluster, photographs."""

from __future__ import annotations

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
import pytest
import ray
import s3fs

KEY, SECRET = "testkey", "testsecret"
# 64 small boxes of the real network, quick on two cores
SMALL = {"min_size": 128, "max_size": 256, "rpn_post_nms_top_n_test": 50}


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


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A SeaweedFS S3 server on loopback; a boto3 client of it. The AWS environment points there."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    user = {"accessKey": KEY, "secretKey": SECRET}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = [
        {"name": "all", "credentials": [user], "actions": actions},
        {
            "name": "none",
            "credentials": [{"accessKey": "nokey", "secretKey": "nosecret"}],
            "actions": ["Read:elsewhere"],
        },
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    port = free_port()
    ports = {name: free_port() for name in ("master", "volume", "filer")}
    command = [
        f"{sysconfig.get_path('scripts')}/weed", "-logtostderr=true", "mini", f"-dir={folder}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={port}",
        *(f"-{name}.port={number}" for name, number in ports.items()),
        "-admin.ui=false", "-webdav=false", "-master.telemetry=false",
        "-volume.preStopSeconds=0", "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-admin.port={free_port()}", f"-s3.config={folder}/s3.json",
    ]  # fmt: skip
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client = boto3.client("s3")
    try:
        _wait_until_ready(client, folder / "log")
        yield client
    finally:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_until_ready(client: Any, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"1")
            return
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            if time.monotonic() > deadline:
                pytest.fail(f"the S3 server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest) -> str:
    """A fresh bucket's name."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower()).strip("-")
    name = f"{name[:40].strip('-')}-{time.time_ns()}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def no_rights(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The credentials of this process are those of a user who may do nothing."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nokey")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nosecret")
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def cluster(s3: Any) -> Iterator[None]:
    """One Ray cluster for all tests that run in this process; its workers reach the S3 server."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def photographs() -> dict[str, bytes]:
    """Name to bytes of the photographs in scikit-image."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    names = ("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png",
             "hubble_deep_field.jpg", "moon.png", "rocket.jpg")  # fmt: skip
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture
def folder(tmp_path: Path, photographs: dict[str, bytes]) -> Path:
    """A folder with the photographs."""
    images = tmp_path / "images"
    images.mkdir()
    for name, data in photographs.items():
        (images / name).write_bytes(data)
    return images
