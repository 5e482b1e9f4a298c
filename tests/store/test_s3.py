"""S3 as people have it: public buckets, archived objects, no credentials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import s3fs

from pipeline import UsageError
from pipeline.config import Config
from pipeline.inputs.sources import open_source
from pipeline.store import failures, objects, urls
from tests.support import seaweed
from tests.support.faulty import Fault, Proxy


@pytest.fixture
def no_credentials(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_public_bucket(s3: Any, no_credentials: None) -> None:
    s3.create_bucket(Bucket=seaweed.PUBLIC)
    s3.put_object(Bucket=seaweed.PUBLIC, Key="images/a.jpg", Body=b"a")
    url = f"s3://{seaweed.PUBLIC}/images/"
    config = Config(input=url, output="out", s3_options={"anon": True})
    (table,) = open_source(config).read()
    assert table["image_uri"].to_pylist() == [f"{url}a.jpg"]
    assert objects.read("weights", f"{url}a.jpg", config.reading) == b"a"
    with pytest.raises(UsageError, match="no credentials for S3; set .* or give --s3-anonymous"):
        list(open_source(Config(input=url, output="out")).read())


def test_a_requester_pays(s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put_object(Bucket=bucket, Key="images/a.jpg", Body=b"a")
    config = Config(
        input=f"s3://{bucket}/images", output="out", s3_options={"requester_pays": True}
    )
    asked = []
    fs, path = urls.filesystem(config.input, reading=config.reading)
    fs.connect()
    for operation in ("GetObject", "ListObjectsV2"):
        fs._s3.meta.events.register(
            f"before-sign.s3.{operation}",
            lambda request, **_: asked.append(request.headers.get("x-amz-request-payer")),
        )
    assert [table.num_rows for table in open_source(config).read()] == [1]
    assert fs.cat_file(f"{path}/a.jpg") == b"a"
    assert len(asked) >= 3 and {str(payer) for payer in asked} <= {"requester", "b'requester'"}


def test_an_archived_object(s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put_object(Bucket=bucket, Key="a.jpg", Body=b"a")
    with Proxy(s3.meta.endpoint_url) as proxy:
        proxy.faults = [Fault("InvalidObjectState")]
        options = {"endpoint_url": proxy.url}
        config = Config(input=f"s3://{bucket}", output="out", s3_options=options)
        fs, path = urls.filesystem(f"s3://{bucket}/a.jpg", reading=config.reading)
        with pytest.raises(PermissionError) as raised:
            fs.cat_file(path)
        assert proxy.injected["InvalidObjectState"] == 1
        assert failures.classify(raised.value) == ("archived", False)
        assert failures.reason(raised.value).startswith("archived, in a storage class")
        with pytest.raises(UsageError, match="cannot read weights s3://.*: archived, in a storage"):
            objects.read("weights", f"s3://{bucket}/a.jpg", config.reading)
        assert proxy.injected["InvalidObjectState"] == 2


@pytest.mark.parametrize(
    "options,complaint",
    [
        ({"annon": True}, "unknown name 'annon' (did you mean 'anon'?)"),
        ({"key": "c4n4ry"}, "key looks like a credential"),
        ({"aws_session_token": "c4n4ry"}, "aws_session_token looks like a credential"),
        ({"endpoint_url": "http://u:c4n4ry@h"}, "endpoint_url holds credentials"),
        ({"anon": "c4n4ry"}, "anon must be true or false"),
        ({"profile": 3}, "profile must be text"),
        (["anon"], "must hold `name: value` lines"),
    ],
)
def test_options_that_are_refused(options: Any, complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        Config(input="in", output="out", s3_options=options)
    assert complaint in str(raised.value) and "c4n4ry" not in str(raised.value)
