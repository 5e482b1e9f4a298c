"""Files that appear whole, under the lease."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.outputs.lease import LeaseLost
from pipeline.stages.write import by_file
from tests.support.outputs import rows, tables
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


def test_nothing_is_written_without_the_lease(tmp_path: Path) -> None:
    output = leased(tmp_path, "another's")
    with pytest.raises(LeaseLost):
        write(output, [0])
    assert rows(output) == []
