"""`jobs.verify` as a command: what it cannot read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs import verify as job


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
