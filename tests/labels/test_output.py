"""A finished output comes in order of id, whatever its files overlap; what is none is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import RunError, UsageError
from pipeline.labels import boxes, classes
from pipeline.labels.output import Output, open_output
from pipeline.labels.progress import progress
from pipeline.outputs.files import FileName
from tests.support import synthetic
from tests.support.outputs import rows


def scatter(output: Path, seed: int) -> None:
    """The same rows in files that overlap, as after kills: each holds ids from anywhere."""
    random = np.random.default_rng(seed)
    for status in ("ok", "error"):
        folder = output / "detections" / f"status={status}"
        files = sorted(folder.iterdir())
        table = pa.concat_tables([pq.ParquetFile(path).read() for path in files])
        for path in files:
            path.unlink()
        owners = random.integers(0, 7, len(table))
        for owner in np.unique(owners):
            part = table.filter(pa.array(owners == owner))
            # the name may promise a smaller id than the file holds, as that of an error file does
            first = max(0, part["image_id"][0].as_py() - int(owner))
            name = f"part-00000-{owner:04d}-{first:012d}-{owner:012d}.parquet"
            pq.write_table(part, folder / name)


@pytest.mark.parametrize("seed", range(3))
def test_rows_come_in_order(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.labels.output.TABLE_ROWS", 50)
    path = synthetic.write(tmp_path / "out", 500, rows_per_file=64)
    expected = rows(str(path))
    scatter(path, seed)
    opened = open_output(str(path))
    tables = list(opened.tables(["status", "image_id", "image_uri"]))
    found = pa.concat_tables(tables).to_pylist()
    assert found == [
        {"status": row["status"], "image_id": row["image_id"], "image_uri": row["image_uri"]}
        for row in expected
    ]
    counted: dict[str, int] = {}

    def count(name: FileName, number: int) -> None:
        counted[str(name)] = number

    ok = pa.concat_tables(opened.tables(["image_id"], ("ok",), counted=count))
    assert ok["image_id"].to_pylist() == [n for n in range(500) if n % 100 != 99]
    assert sum(counted.values()) == 495 and len(counted) == 7


def test_boxes_are_those_of_the_rows(tmp_path: Path) -> None:
    opened = open_output(str(synthetic.write(tmp_path / "out", 60)))
    everything = classes.choose(opened.categories)
    images = [
        image
        for table in opened.tables(boxes.COLUMNS, ("ok",))
        for image in everything.choose(boxes.from_table(table)).images()
    ]
    expected = [row for row in rows(opened.url) if row["status"] == "ok"]
    for image, row in zip(images, expected, strict=True):
        assert (image.image_id, image.uri) == (row["image_id"], row["image_uri"])
        assert (image.width, image.height) == (row["width"], row["height"])
        found = [
            {
                "label": everything.names[k],
                "score": score,
                "xmin": b[0],
                "ymin": b[1],
                "xmax": b[2],
                "ymax": b[3],
            }
            for k, score, b in zip(
                image.classes, image.scores.tolist(), image.xyxy.tolist(), strict=True
            )
        ]
        assert found == [
            {k: v for k, v in detection.items() if k != "label_id"}
            for detection in row["detections"]
        ]


def test_s3(s3: Any, bucket: str, tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "out", 100, rows_per_file=16)
    for file in path.rglob("*"):
        if file.is_file():
            key = f"a/out/{file.relative_to(path)}"
            s3.put_object(Bucket=bucket, Key=key, Body=file.read_bytes())
    opened = open_output(f"s3://{bucket}/a/out/")
    assert opened.url == f"s3://{bucket}/a/out"
    found = pa.concat_tables(opened.tables(["image_id"]))
    assert found["image_id"].to_pylist() == list(range(100))


def test_categories_without_names_and_without_gaps(tmp_path: Path) -> None:
    opened = open_output(str(synthetic.write(tmp_path / "out", 3)))
    assert opened.categories == synthetic.CATEGORIES
    holes = {"1": "person", "2": "N/A", "3": "N/A", "4": "cup"}
    assert with_categories(opened, holes).categories == {1: "person", 4: "cup"}
    opened.detector["options"]["num_classes"] = 3
    assert with_categories(opened, {}).categories == {1: "class_1", 2: "class_2"}


def with_categories(opened: Output, categories: dict[str, str]) -> Output:
    opened.detector["categories"] = categories
    return opened


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "out", 200, rows_per_file=64)
    opened = open_output(str(path))
    damaged = sorted((path / "detections/status=ok").iterdir())[2]
    damaged.write_bytes(b"PAR1")
    with pytest.raises(RunError, match=f"{damaged.name} cannot be read .*jobs.verify"):
        list(opened.tables(["image_id"]))


@pytest.mark.parametrize(
    "damage,complaint",
    [
        (lambda path: shutil.rmtree(path), "out does not exist"),
        (lambda path: shutil.rmtree(path / "_run"), "is not an output of prelabel detect"),
        (lambda path: (path / "_SUCCESS").unlink(), "is not finished"),
        (lambda path: (path / "_run/run.json").write_text("{"), "cannot read"),
        (
            lambda path: (path / "_run/run.json").write_text(json.dumps({"counts": None})),
            "is not finished",
        ),
    ],
)
def test_what_is_no_finished_output(tmp_path: Path, damage: Any, complaint: str) -> None:
    path = synthetic.write(tmp_path / "out", 3)
    damage(path)
    with pytest.raises(UsageError, match=complaint):
        open_output(str(path))


@pytest.mark.parametrize("below", ["detections", "detections/status=ok", "_run"])
def test_a_folder_of_an_output_is_not_all_of_it(tmp_path: Path, below: str) -> None:
    path = synthetic.write(tmp_path / "out", 3)
    with pytest.raises(UsageError, match=f"has no _run/run.json .did you mean {path}.?.$"):
        open_output(f"{path}/{below}/")


def test_progress_is_a_log_line_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO", logger="pipeline")
    with progress("reading", 2000) as bar:
        bar.mininterval = bar.delay = 0
        for _ in range(20):
            bar.update(100)
    assert "reading 1,000 of 2,000 images (50 %)" in caplog.text
    assert "\r" not in caplog.text and capsys.readouterr().err == ""


def test_the_jobs_that_read_an_output_need_neither_ray_nor_torch() -> None:
    code = (
        "import sys; from jobs import evaluate, export, report, select, verify; "
        "print([name for name in ('ray', 'torch', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
