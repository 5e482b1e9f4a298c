"""Objects of a disk and of S3: created once, replaced, listed, gone."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import tenacity
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.store import objects, urls
from pipeline.store.web import HttpError


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return f"{tmp_path}/out"
    request.getfixturevalue("s3")
    return f"s3://{request.getfixturevalue('bucket')}/out"


def test_only_one_creates(root: str) -> None:
    fs, path = urls.filesystem(f"{root}/x.json")
    assert objects.create(fs, path, b"1") and not objects.create(fs, path, b"2")
    assert objects.get(fs, path) == b"1"
    objects.put(fs, path, b"3")
    assert objects.get(fs, path) == b"3"
    objects.delete(fs, path)
    objects.delete(fs, path)
    assert objects.get(fs, path) is None


def test_only_one_creates_where_there_are_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    test_only_one_creates(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_store_that_refuses_conditions_is_written_to_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: MemoryFileSystem, path: str, data: bytes, mode: str = "overwrite") -> None:
        if mode == "create":
            raise HttpError(501, "A header you provided implies functionality that is not there")
        write(self, path, data)

    write = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())
    fs, path = MemoryFileSystem(), "/refusing/x.json"
    assert objects.create(fs, path, b"1") and objects.get(fs, path) == b"1"


def test_a_network_disk_that_is_away_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, errors = os.replace, [OSError(errno.ESTALE, "Stale file handle")]

    def replace_late(*paths: Any) -> None:
        if errors:
            raise errors.pop()
        replace(*paths)

    monkeypatch.setattr(os, "replace", replace_late)
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())
    fs, path = urls.filesystem(f"{tmp_path}/x")
    objects.put(fs, path, b"1")
    assert [(name.name, name.read_bytes()) for name in tmp_path.iterdir()] == [("x", b"1")]


def test_a_store_lists_only_what_is_asked_for(s3: Any, bucket: str) -> None:
    fs, root = urls.filesystem(f"s3://{bucket}/out")
    for name in ("part-00001-a", "part-00001-b", "part-00010-a", "part-00011-a"):
        objects.put(fs, f"{root}/detections/{name}", b"x")
    objects.put(fs, f"{root}/part-00001-elsewhere", b"x")
    found = objects.names(fs, f"{root}/detections", "part-00001-")
    assert found == ["part-00001-a", "part-00001-b"]
    assert objects.names(fs, f"{root}/detections", "part-00002-") == []
    assert objects.names(fs, f"{root}/nothing", "part-") == []


@pytest.mark.parametrize("error", [ConnectionError("away"), aiohttp.ClientPayloadError("away")])
def test_attempts_do_not_multiply(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what is tried again has a part that is."""
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())
    made = []

    def fails() -> None:
        made.append(1)
        raise error

    with pytest.raises(OSError, match="away"):
        objects.retrying(lambda: objects.retrying(fails, 3), 3)
    assert len(made) == 3
