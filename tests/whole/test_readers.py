"""What docs/ says to do with an output, on one whose first files hold no detection at all."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from PIL import Image

from pipeline import Config, run
from pipeline.driver.summary import Summary
from tests.support.documents import ROOT, USER_PAGES, blocks, commands, job_of, name_of
from tests.support.engines import PixelEngine

READING, PYTHON = ROOT / "docs/output.md", ROOT / "docs/python.md"


def after(page: Path) -> list[tuple[str, list[str]]]:
    """Jobs and arguments of a page's commands that read an output `labels`, in their order."""
    called = [job_of(line) for line, marked in commands(page) if not marked]
    return [call for call in called if call and call[1][:1] == ["labels"]]


@pytest.fixture(scope="module")
def output(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 dark images (nothing found), then 8 light ones (a box each), then a broken one."""
    root = tmp_path_factory.mktemp("readers")
    (root / "photographs").mkdir()
    for number in range(20):
        picture = np.full((20, 30, 3), 0 if number < 12 else 128, np.uint8)
        Image.fromarray(picture).save(root / "photographs" / f"{number:02d}.png")
    (root / "photographs" / "99.png").write_bytes(b"")
    config = Config(
        input=str(root / "photographs"),
        output=str(root / "labels"),
        weights="random:0",
        rows_per_file=4,
    )
    summary = run(config, PixelEngine)
    assert summary and summary.detections == 8
    return root / "labels"


def test_files_without_detections_come_first(output: Path) -> None:
    first = sorted((output / "detections/status=ok").iterdir())[0]
    table = pl.read_parquet(first)
    assert table["num_detections"].sum() == 0
    assert isinstance(table.schema["detections"], pl.List)


def test_python_one_liners(output: Path) -> None:
    found = blocks(READING, "python")
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
    (code,) = blocks(READING, "sql")
    results = []
    for statement in code.replace("OUTPUT", str(output)).split(";\n"):
        if statement.strip():
            results.append(duckdb.execute(statement).fetchall())
    flat, by_label, states, detector = results
    assert len(flat) == 8
    assert by_label == [("person", 8)]
    assert states == [(8, 12, 1)]
    assert detector == [("fasterrcnn_resnet50_fpn_v2",)]


def test_from_python(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that the page has made before is complete, so it is left as it is."""
    monkeypatch.chdir(output.parent)
    names: dict[str, Any] = {}
    for code in blocks(PYTHON, "python"):
        exec(code, names)
    assert isinstance(names["summary"], Summary) and names["summary"].detections == 8
    assert names["boxes"].num_rows == 0 and names["summary"].boxes().num_rows == 8


@pytest.mark.parametrize("page", [page for page in USER_PAGES if after(page)], ids=name_of)
def test_commands(
    page: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labels").symlink_to(output)
    categories = [{"id": 1, "name": "person"}]
    image = {"id": 7, "file_name": "12.png", "width": 30, "height": 20}
    box = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
    truth = {"images": [image], "annotations": [box], "categories": categories}
    (tmp_path / "instances.json").write_text(json.dumps(truth))
    monkeypatch.chdir(tmp_path)
    for job, arguments in after(page):
        assert importlib.import_module(f"jobs.{job}").main(arguments) == 0, arguments
