"""The names of images below a run's input, whatever that is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.labels.export.naming import Names, input_folder, relative_name
from tests.support import synthetic
from tests.support.exports import run


@pytest.mark.parametrize(
    "input,uri,name",
    [
        ("/data/set", "/data/set/a/1.jpg", "a/1.jpg"),
        ("/data/set.v2", "/data/set.v2/a/1.jpg", "a/1.jpg"),
        ("/data/my set", "file:///data/my%20set/a/%E9.jpg", "a/%E9.jpg"),
        ("s3://bucket/set.v2/", "s3://bucket/set.v2/a/1.jpg", "a/1.jpg"),
        ("/data/2024.05.17", "/data/2024.05.17/1.jpg", "1.jpg"),
        ("/data/run[1]", "/data/run[1]/1.jpg", "1.jpg"),
        ("s3://bucket/what?/", "s3://bucket/what?/x/1.jpg", "x/1.jpg"),
        ("/data/*", "/data/*/1.jpg", "1.jpg"),
        ("/data/frames.jpg/", "/data/frames.jpg/1.jpg", "1.jpg"),
        ("/data/tables.csv", "/data/tables.csv/1.jpg", "1.jpg"),
        ("s3://bucket", "s3://bucket/a/1.jpg", "a/1.jpg"),
        ("s3://bucket.v2", "s3://bucket.v2/a/1.jpg", "a/1.jpg"),
        ("/", "/a/1.jpg", "a/1.jpg"),
        ("/data/run[1]/*.jpg", "/data/run1/1.jpg", "run1/1.jpg"),
        ("/data/2026-*/**/*.jpg", "/data/2026-01/x/1.jpg", "2026-01/x/1.jpg"),
        ("/data/set.v2/*.jpg", "/data/set.v2/1.jpg", "1.jpg"),
        ("/data/1.jpg", "/data/1.jpg", "1.jpg"),
        ("/data/list.parquet", "/data/a/1.jpg", "a/1.jpg"),
        ("/data/list.csv.gz", "/data/a/1.jpg", "a/1.jpg"),
        ("/data/list.parquet", "s3://bucket/a/1.jpg", "bucket/a/1.jpg"),
        ("/data/list.parquet", "/elsewhere/1.jpg", "elsewhere/1.jpg"),
        ("/data/x.tar", "/data/x.tar#a/1.jpg", "x.tar#a/1.jpg"),
        ("s3://bucket/*.tar.gz", "s3://bucket/x.tar.gz#1.jpg", "x.tar.gz#1.jpg"),
    ],
)
def test_relative_names(input: str, uri: str, name: str) -> None:
    assert relative_name(uri, input_folder(input)) == name


@pytest.mark.parametrize(
    "member,name",
    [
        ("../../etc/passwd.jpg", "x.tar_/_/etc/passwd.jpg"),
        ("/etc/a.jpg", "x.tar_/etc/a.jpg"),
        ("C:\\b\\a.jpg", "x.tar_C__b_a.jpg"),
        ("@1024/a.jpg", "x.tar_@1024/a.jpg"),
    ],
)
def test_members_of_archives(member: str, name: str) -> None:
    found = relative_name(f"/data/x.tar#{member}", input_folder("/data/*.tar"))
    assert Names().safe(found, 0) == name


@pytest.mark.parametrize("folder", ["set.v2", "2024.05.17", "run[1]", "a?b", "x.jpg"])
def test_an_export_of_a_folder(tmp_path: Path, folder: str) -> None:
    output = synthetic.write(tmp_path / "out", 2, input=f"s3://bucket/{folder}", names=["a", "b/c"])
    assert run(output, tmp_path / "a") == 0
    images = json.loads((tmp_path / "a/instances.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["a", "b/c"]
