"""The boxes of an output in the hand: a row for each."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

import pipeline
from pipeline import RunError, UsageError, read_boxes, stream_boxes
from pipeline.driver.summary import Summary
from pipeline.outputs.boxes import BOX
from tests.support import outputs, synthetic

CORNERS = ("xmin", "ymin", "xmax", "ymax")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("boxes") / "out", 300, 5, rows_per_file=64)


def expected(output: Path, threshold: float = 0.0) -> list[tuple[Any, ...]]:
    return [
        (row["image_id"], row["image_uri"], box["label"], box["score"], *map(box.get, CORNERS))
        for row in sorted(outputs.rows(str(output)), key=lambda row: row["image_id"])
        for box in row["detections"] or []
        if box["score"] >= threshold
    ]


def as_tuples(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("image_id", "image_uri", "label", "score", *CORNERS)
    return [tuple(map(row.get, names)) for row in rows]


def test_every_box_is_a_row(output: Path) -> None:
    boxes = read_boxes(str(output))
    assert boxes.schema == BOX and len(boxes) > 1000
    assert as_tuples(boxes.to_pylist()) == expected(output)
    assert isinstance(boxes.to_pandas(), pd.DataFrame)
    assert pl.from_arrow(boxes).shape == boxes.shape


def test_of_a_summary(output: Path) -> None:
    counts: dict[str, Any] = {"images": 300, "detections": 1, "errors": {}, "duplicates": 0}
    rest: dict[str, Any] = {"processed": 0, "seconds": 1, "max_error_rate": 0.05}
    rest |= {"low_contrast": 0, "low_contrast_example": ""}
    summary = Summary(**counts, **rest, output=str(output))
    assert summary.boxes(score_threshold=0.5).equals(read_boxes(str(output), score_threshold=0.5))


def test_by_score_and_category(output: Path) -> None:
    boxes = read_boxes(str(output), score_threshold=0.5, categories=["dog", "cup"])
    wanted = [box for box in expected(output, 0.5) if box[2] in ("dog", "cup")]
    assert as_tuples(boxes.to_pylist()) == wanted and wanted


def test_a_file_at_a_time(output: Path) -> None:
    tables = list(stream_boxes(str(output)))
    files = list((output / "detections/status=ok").iterdir())
    assert len(tables) == len(files) > 3 and all(table.schema == BOX for table in tables)
    assert [box for table in tables for box in as_tuples(table.to_pylist())] == expected(output)


def test_from_a_bucket(s3: Any, bucket: str, output: Path) -> None:
    for path in output.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), bucket, f"out/{path.relative_to(output)}")
    assert read_boxes(f"s3://{bucket}/out/").equals(read_boxes(str(output)))


def test_one_name_alone(output: Path) -> None:
    one, few = (read_boxes(str(output), categories=names) for names in ("dog", ["dog"]))
    assert one.equals(few) and len(one) > 0


def test_without_any(tmp_path: Path) -> None:
    output = synthetic.write(tmp_path / "out", 3, boxes=0)
    assert read_boxes(str(output)).equals(BOX.empty_table())


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not an output of prelabel detect"):
        read_boxes(str(tmp_path))
    output = synthetic.write(tmp_path / "out", 3)
    with pytest.raises(UsageError, match="has no category 'dgo' .did you mean 'dog'"):
        read_boxes(str(output), categories=["dgo"])
    with pytest.raises(UsageError, match="has no category 'x' .known are '"):
        read_boxes(str(output), categories="x")
    (file,) = (output / "detections/status=ok").iterdir()
    late = file.with_name("part-00000-0001-000000000000-ffff.parquet")
    shutil.copy(file, late)
    with pytest.raises(RunError, match="hold 6 images .* but its run.json counts 3; .*verify"):
        read_boxes(str(output))
    late.unlink()
    file.write_bytes(b"junk")
    with pytest.raises(RunError, match="cannot be read"):
        read_boxes(str(output))
    (output / "_SUCCESS").unlink()
    with pytest.raises(UsageError, match="is not finished"):
        read_boxes(str(output))


def test_the_library_has_it() -> None:
    assert all(callable(getattr(pipeline, name)) for name in pipeline.__all__)
