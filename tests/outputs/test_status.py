"""What an output says of its run; of one at work and of one killed, see `test_exactly_once`."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from jobs import status
from pipeline.outputs.status import Slice, Status
from tests.support.runs import told


def test_a_complete_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished = Path(__file__).parents[1] / "data/before_rooms/finished"
    output = str(shutil.copytree(finished, tmp_path / "out"))
    found = told(capsys, output)
    assert (found["status"], found["images"], found["written"]) == ("complete", 40, 40)
    assert found["errors"] == {"not_an_image": 1, "truncated": 1}
    assert found["slices"][0]["stage"] == "sealed"
    assert status.main([output]) == 0
    said = capsys.readouterr().out
    assert "errors      2 (" in said and "held by" not in said


def test_a_listing_that_was_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = {"identity": {}, "retry_from": 0, "attempts": [{"started": "now"}]}
    (tmp_path / "_run").mkdir()
    (tmp_path / "_run" / "run.json").write_text(json.dumps(content))
    assert status.main([str(tmp_path)]) == 0
    assert "images      not yet listed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "images,rate,left,text",
    [
        (0, 0.0, None, "done        0; no rate yet\n"),
        (20, 0.5, 160, "done        20, some of them not yet in a file; 0.5 images/s, 2 min 40"),
    ],
)
def test_how_far_a_run_is(
    capsys: pytest.CaptureFixture[str], images: int, rate: float, left: float | None, text: str
) -> None:
    progress = {"images": images, "images_per_second": rate, "seconds_left": left}
    slices = [Slice(0, 100, 0, Counter(), False)]
    status.show(Status("s3://b/out", False, [], slices, {"progress": progress}, alive=True))
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "{", '{"identity": 1}'])
def test_no_output(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None) -> None:
    if content:
        (tmp_path / "_run").mkdir()
        (tmp_path / "_run" / "run.json").write_text(content)
    assert status.main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("prelabel status: ") and str(tmp_path) in said and said.count("\n") == 1
