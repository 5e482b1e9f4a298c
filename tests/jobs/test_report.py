"""`jobs.report` as a command: what it writes where, and how it ends."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import report
from pipeline.labels.report import frame
from pipeline.outputs import schema
from pipeline.outputs.files import encode
from tests.support import photographed, reviews, synthetic
from tests.support.outputs import rows


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, bytes]) -> Path:
    return photographed.write(tmp_path_factory.mktemp("report"), photographs)


def test_last_line(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "report.html"
    target.write_text("what was there before")
    assert report.main([str(output), "--to", str(target), "--pictures", "2"]) == 0
    line = capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")
    assert re.fullmatch(rf"report  {target}: \d+ kB, \d+ pictures(; \d images? could.*)?\n", line)
    assert target.read_text().startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_probabilities_in_place_of_scores(tmp_path: Path) -> None:
    """Halved, none is over 0.5, and all numbers of boxes stay."""
    output = synthetic.write(tmp_path / "out", 60)
    path = reviews.calibration(tmp_path / "c.json", dict.fromkeys(synthetic.NAMES, 0.5))
    to = tmp_path / "report.html"
    flags = ["--to", str(to), "--pictures", "0", "--calibration", path]
    assert report.main([str(output), *flags]) == 0
    html = to.read_text()
    data = json.loads(html.partition('id="data">')[2].partition("</script>")[0])
    by_hundredth = [sum(column) for column in zip(*data["scores"].values(), strict=True)]
    assert sum(by_hundredth[51:]) == 0
    assert sum(by_hundredth) == sum(len(row["detections"] or []) for row in rows(str(output)))
    assert "Probability at least" in html and "Score at least" not in html


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--to is missing"),
        (["--to", "."], "is a folder; give the name of a file"),
        (["--to", "r.html", "--score-threshold", "1.5"], "must be within 0 and 1"),
        (["--to", "r.html", "--score-threshold", "0.333"], "at most two decimals"),
        (["--to", "r.html", "--pictures", "-1"], "--pictures must be within 0 and 1000"),
        (["--to", "r.html", "--picture", "1"], "did you mean '--pictures'"),
        (["--to", "nobody://r.html"], "cannot open nobody://r.html"),
    ],
)
def test_usage(
    output: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main([str(output), *flags]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_no_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(tmp_path), "--to", str(tmp_path / "report.html")]) == 2
    assert "is not an output of prelabel detect" in capsys.readouterr().err


def test_damaged_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = synthetic.write(tmp_path / "out", 300, rows_per_file=100)
    sorted((folder / "detections/status=ok").iterdir())[1].write_bytes(b"PAR1")
    assert report.main([str(folder), "--to", str(tmp_path / "report.html")]) == 1
    assert "jobs.verify" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_size_is_kept(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, small = tmp_path / "whole.html", tmp_path / "small.html"
    assert report.main([str(output), "--to", str(whole), "--pictures", "20"]) == 0
    assert "more would not fit into the file" not in whole.read_text()
    limit = whole.stat().st_size // 2
    monkeypatch.setattr(frame, "MOST_BYTES", limit)
    assert report.main([str(output), "--to", str(small), "--pictures", "20"]) == 0
    assert 0.5 * limit < small.stat().st_size <= limit
    assert "more would not fit into the file" in small.read_text()
    cards = [len(part.split('class="card"')) for part in small.read_text().split("<section")]
    assert min(cards[cards.index(max(cards)) :][:4]) > 1  # each gallery has some


def test_on_s3(output: Path, s3: Any, bucket: str, tmp_path: Path) -> None:
    """Output, images and report on S3, whose listing tells when files were written."""
    folder = tmp_path / "out"
    shutil.copytree(output, folder)
    local = str(output.parent / "images")
    for path in folder.rglob("*.parquet"):
        if "detections" in path.parts:
            table = pq.ParquetFile(path).read()
            uris = [
                u.replace(local, f"s3://{bucket}/images") for u in table["image_uri"].to_pylist()
            ]
            changed = table.set_column(1, schema.ROW.field("image_uri"), pa.array(uris))
            path.write_bytes(encode(changed, table.schema))
    record = json.loads((folder / "_run/run.json").read_text())
    record["identity"]["input"] = f"s3://{bucket}/images"
    record["attempts"][0] |= {"started": "2020-01-01T00:00:00Z", "ended": "2090-01-01T00:00:00Z"}
    (folder / "_run/run.json").write_text(json.dumps(record))
    for base, prefix in ((folder, "out"), (output.parent / "images", "images")):
        for path in base.rglob("*"):
            if path.is_file() and "\n" not in path.name:
                s3.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(base)}")
    target = f"s3://{bucket}/reports/report.html"
    assert report.main([f"s3://{bucket}/out", "--to", target]) == 0
    written = s3.get_object(Bucket=bucket, Key="reports/report.html")["Body"].read().decode()
    assert "the times at which 2 files of detections were written" in written.replace("\xa0", " ")
    assert written.count("data:image/webp") > 20
