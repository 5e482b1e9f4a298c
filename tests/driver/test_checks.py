"""What is told before anything is loaded or started."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import s3fs
import tenacity

from pipeline import Config, UsageError
from pipeline.driver.checks import check


def config(folder: Path, **changed: Any) -> Config:
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / "a.jpg").write_bytes(b"")
    given = {"input": f"{folder}/in", "output": f"{folder}/out", "weights": "random:0"}
    return Config(**(given | changed))


def test_what_is_there_passes_and_nothing_is_written(tmp_path: Path) -> None:
    check(config(tmp_path), dry_run=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name,value,complaint",
    [
        ("input", "{}/none", "none: it does not exist"),
        ("input", "{}", "no images under {} .*passed over 1 file: 1 .txt"),
        ("output", "{}/file.txt", "output {}/file.txt is a file; give the name of a folder"),
        ("output", "{}/../in", "is the input itself; give a folder of its own"),
        ("output", "{}/file.txt/out", "nothing can be written in {}/file.txt .Not a directory"),
        ("output", "/proc/out", "cannot write to /proc/out: nothing can be written in /proc"),
        ("weights", "{}/none.pth", "cannot read weights {}/none.pth: it does not exist"),
        ("categories", "{}/none.txt", "cannot read categories {}/none.txt: it does not exist"),
    ],
)
def test_what_is_not(tmp_path: Path, name: str, value: str, complaint: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file.txt").write_text("")
    with pytest.raises(UsageError, match=complaint.format(folder)):
        check(config(tmp_path, **{name: value.format(folder)}), dry_run=False)


def test_a_bucket_that_may_not_be_written_to(
    tmp_path: Path, s3: Any, bucket: str, no_rights: None
) -> None:
    with pytest.raises(UsageError, match="no permission; check the credentials"):
        check(config(tmp_path, output=f"s3://{bucket}/out"), dry_run=False)


def test_a_bucket_in_which_nothing_may_be_deleted(
    tmp_path: Path, s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr("pipeline.store.objects.delete", refuse)
    told = f"^cannot delete s3://{bucket}/out/_run/probe: no permission; check the credentials"
    with pytest.raises(UsageError, match=told):
        check(config(tmp_path, output=f"s3://{bucket}/out"), dry_run=False)


def test_of_a_bucket_nothing_is_left(tmp_path: Path, s3: Any, bucket: str) -> None:
    check(config(tmp_path, output=f"s3://{bucket}/out"), dry_run=False)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_no_server_behind_the_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr("pipeline.store.objects.RETRY_WAIT", tenacity.wait_none())
    s3fs.S3FileSystem.clear_instance_cache()
    told = (
        r"cannot read s3://b/in: .*Could not connect to the endpoint URL: "
        r"\"http://127.0.0.1:9/b.*\"; "
        "is the network up, and AWS_ENDPOINT_URL, which is http://127.0.0.1:9, right.$"
    )
    with pytest.raises(UsageError, match=told):
        check(config(tmp_path, input="s3://b/in"), dry_run=False)
    s3fs.S3FileSystem.clear_instance_cache()


def test_an_output_within_the_input(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check(config(tmp_path, output=f"{tmp_path}/in/labels"), dry_run=False)
        assert "is inside the input" in caplog.text
        caplog.clear()
        check(config(tmp_path, output=f"{tmp_path}/in-labels"), dry_run=False)
        assert not caplog.text


def test_nothing_is_loaded_for_it() -> None:
    """Torch and Ray take seconds, and a mistake is to be told at once."""
    program = "import sys, pipeline.driver.runner; print({'torch', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
