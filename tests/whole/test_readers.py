"""The README's one-liners, on an output whose first files hold no detection at all."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
from PIL import Image

from pipeline import Config, run
from tests.support.engines import PixelEngine

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def output(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 dark images (nothing found), then 8 light ones (a box each), then a broken one."""
    root = tmp_path_factory.mktemp("readers")
    (root / "in").mkdir()
    for number in range(20):
        picture = np.full((20, 30, 3), 0 if number < 12 else 128, np.uint8)
        Image.fromarray(picture).save(root / "in" / f"{number:02d}.png")
    (root / "in" / "99.png").write_bytes(b"")
    config = Config(
        input=str(root / "in"), output=str(root / "out"), weights="random:0", rows_per_file=4
    )
    summary = run(config, PixelEngine)
    assert summary and summary.detections == 8
    return root / "out"


def blocks(language: str) -> list[str]:
    """The code blocks of the README's section on reading."""
    section = README.read_text().split("## Reading the output")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, flags=re.S)


def test_files_without_detections_come_first(output: Path) -> None:
    first = sorted((output / "detections/status=ok").iterdir())[0]
    table = pl.read_parquet(first)
    assert table["num_detections"].sum() == 0
    assert isinstance(table.schema["detections"], pl.List)


def test_python_one_liners(output: Path) -> None:
    found = blocks("python")
    assert len(found) == 4  # Polars, pandas, Hugging Face datasets, pyarrow
    for code in found:
        done = subprocess.run(
            [sys.executable, "-c", code.replace("OUTPUT", str(output))],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{code}\n{done.stderr}"
        assert json.loads(done.stdout.splitlines()[-1]) == 8, code


def test_sql_one_liners(output: Path) -> None:
    (code,) = blocks("sql")
    results = []
    for statement in code.replace("OUTPUT", str(output)).split(";\n"):
        if statement.strip():
            results.append(duckdb.execute(statement).fetchall())
    flat, by_label, states, detector = results
    assert len(flat) == 8
    assert by_label == [("person", 8)]
    assert states == [(8, 12, 1)]
    assert detector == [("fasterrcnn_resnet50_fpn_v2",)]
