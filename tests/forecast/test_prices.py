"""The table of prices that a user may give."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import plan as job


@pytest.mark.parametrize(
    "content",
    [
        "",
        "machines: []",
        "machines: [{name: x}]",
        "{",
        "requests_per_million: {get: 1}",
        "machines: [{name: x, gpu: L4, gpus: 8, cpus: 4, tflops: 60, dollars_per_hour: 1}]\n"
        "requests_per_million: {get: 1, put: 1, list: 1}",
    ],
)
def test_a_table_of_prices_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(content)
    assert job.main(["--input", "i", "--prices", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"prelabel plan: --prices {path} is not a table of prices")
    assert said.count("\n") == 1
