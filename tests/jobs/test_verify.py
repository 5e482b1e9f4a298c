"""`jobs.verify` as a command: what it cannot read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs import verify as job
from tests.support import outputs, synthetic


def test_without_rights(
    s3: Any, bucket: str, no_rights: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job.main([f"s3://{bucket}/out"]) == 2
    assert "no permission" in capsys.readouterr().err


def test_what_is_no_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("", "none", "file"):
        assert job.main([str(tmp_path / name)]) == 2
    assert job.main([]) == 2
    assert job.main(["s3://", "--fast"]) == 2
    assert capsys.readouterr().err.count("\n") == 5


def test_a_file_of_any_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It cannot write to a terminal what it likes."""
    output = synthetic.write(tmp_path / "out", 3)
    (output / "detections/status=ok/\x1b[2J\n.parquet").write_bytes(b"")
    assert job.main([str(output)]) == 1
    assert (
        "status=ok/\ufffd[2J\ufffd.parquet does not belong to this run" in capsys.readouterr().out
    )


def test_a_run_that_is_not_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = synthetic.write(tmp_path / "out", 300, rows_per_file=100)
    (output / "_SUCCESS").unlink()
    record = json.loads((output / "_run/run.json").read_text())
    (output / "_run/run.json").write_text(json.dumps(record | {"counts": None}))
    for file in list((output / "detections").glob("*/*"))[:2]:
        file.unlink()
    left = len(outputs.rows(str(output)))
    assert job.main([str(output)]) == 2
    told = (
        f"{output} is not finished: {left} of 300 images are written; run its detect command "
        "again to continue"
    )
    assert capsys.readouterr().err == f"prelabel verify: {told}\n"
