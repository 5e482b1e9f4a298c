"""Files that appear whole, under the lease."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import tenacity

from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import LeaseLost
from pipeline.stages.write import by_file
from pipeline.store import objects
from tests.support.away import away_for
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


def test_a_store_that_is_away_for_a_while_ends_no_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = leased(tmp_path)
    away_for(Layout.of(output).fs, objects.ATTEMPTS - 1, monkeypatch)
    write(output, [0])
    assert len(rows(output)) == 1


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


def test_nothing_is_written_without_the_lease(tmp_path: Path) -> None:
    output = leased(tmp_path, "another's")
    with pytest.raises(LeaseLost):
        write(output, [0])
    assert rows(output) == []
