"""Files that appear whole, under the lease."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity

from pipeline.errors import RunError
from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import LeaseLost
from pipeline.outputs.manifest import Manifest
from pipeline.stages.fetch import Fetch
from pipeline.stages.write import by_file
from pipeline.store import objects
from tests.support.outputs import files, rows, tables
from tests.support.writing import leased, write


def test_two_files_a_write(tmp_path: Path) -> None:
    output = leased(tmp_path)
    summary = write(output, [3, 1, 2, 0], failed=[1])
    by_status = {name.split("/")[0]: table["image_id"] for name, table in by_file(summary)}
    assert by_status["status=ok"].to_pylist() == [3, 2, 0]
    assert by_status["status=error"].to_pylist() == [1]
    found = rows(output)
    assert [row["status"] for row in found] == ["ok", "error", "ok", "ok"]
    (table,) = (t for name, t in tables(output).items() if "status=ok" in name)
    assert table["image_id"].to_pylist() == [0, 2, 3]  # in order of id
    assert "status" not in table.column_names and b"detector" in table.schema.metadata


def test_a_write_that_hangs_until_another_run_has_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = leased(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: leased(tmp_path, "another's"))
    with pytest.raises(LeaseLost):
        write(output, [0])
    assert files(output).keys() == {"_run/lease.json"}


def test_a_write_that_is_tried_again_when_another_run_has_taken_over(
    s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store refuses it at first, as it may do for minutes."""
    output = f"s3://{bucket}/out"
    layout = Layout.of(output)

    def lease(token: str) -> None:
        s3.put_object(Bucket=bucket, Key="out/_run/lease.json", Body=f'{{"token": "{token}"}}')

    def refuse(*_: Any, **__: Any) -> None:
        patch.undo()
        lease("another's")
        raise TimeoutError

    lease("mine")
    patch = pytest.MonkeyPatch()
    patch.setattr(layout.fs, "pipe_file", refuse)
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())
    with pytest.raises(LeaseLost):
        write(output, [0])
    assert files(output).keys() == {"_run/lease.json"}


def test_a_write_waits_for_a_store_that_is_away_when_the_lease_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, tries = leased(tmp_path), list[int]()
    fs = Layout.of(output).fs
    read = fs.cat_file

    def away(path: str) -> Any:
        tries.append(1)
        if len(tries) < objects.ATTEMPTS:
            raise ConnectionError("away")
        return read(path)

    monkeypatch.setattr(fs, "cat_file", away)
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())
    write(output, [0])
    assert len(tries) == objects.ATTEMPTS and len(rows(output)) == 1


def test_a_machine_that_does_not_see_the_output(tmp_path: Path) -> None:
    """Of a cluster whose machines share no disk: no other run has taken anything over there."""
    told = "does not see .*/out: give a URL, or a path on a disk that all of its machines see"
    with pytest.raises(RunError, match=told):
        write(str(tmp_path / "out"), [0])
    config = SimpleNamespace(output=str(tmp_path / "out"))
    stage: Any = SimpleNamespace(config=config, manifest=Manifest(1, 0, []))
    with pytest.raises(RunError, match=told):
        Fetch._part(stage, 0)
    assert not (tmp_path / "out").exists()


def test_a_network_disk_that_is_away_is_not_taken_for_one_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, stat, errors = leased(tmp_path), os.stat, [OSError(errno.ESTALE, "Stale file handle")]

    def stat_late(path: Any, **options: Any) -> os.stat_result:
        if str(path).endswith("_run") and errors:
            raise errors.pop()
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", stat_late)
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())
    write(output, [0])
    assert not errors and len(rows(output)) == 1


def test_nothing_is_written_without_the_lease(tmp_path: Path) -> None:
    output = leased(tmp_path, "another's")
    with pytest.raises(LeaseLost):
        write(output, [0])
    assert rows(output) == []
