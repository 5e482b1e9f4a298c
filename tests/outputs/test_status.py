"""What an output says of its run; of one at work and of one killed, see `test_exactly_once`."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from jobs import status
from pipeline import Config
from pipeline.cluster.placement import Placement
from pipeline.driver.attempt import begin
from pipeline.inputs import enumeration
from pipeline.inputs.source import Source
from pipeline.outputs import lease
from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import Lease
from pipeline.outputs.manifest import LISTED, PART_ROWS
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


def test_while_the_input_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then there is a lease, and no record yet; a listing that was killed leaves the same."""
    output = str(tmp_path / "out")
    layout = Layout.of(output)
    owner: dict[str, Any] = {}

    def read() -> Iterator[pa.Table]:
        rows = PART_ROWS + 1
        yield pa.table([map(str, range(rows)), [1] * rows, [1] * rows], schema=LISTED)
        assert told(capsys, output)["progress"] == {"listed": PART_ROWS}
        assert status.main([output]) == 0
        owner.update(json.loads(Path(layout.lease).read_text()))
        raise KeyboardInterrupt

    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(enumeration, "open_source", lambda config: Source(LISTED, read))
    config = Config(input="i", output=output)
    weights: Any = SimpleNamespace(sha256="", categories={}, model_id="", trained=False, options={})
    with pytest.raises(KeyboardInterrupt), Lease(layout) as held:
        begin(config, weights, layout, held, Placement("cpu", 1, 0, 1, 0, 1, 1, 1, 1))
    assert "images      still being listed, 65,536 so far" in capsys.readouterr().out
    Path(layout.lease).write_text(json.dumps(owner | {"process": owner["process"] + "0"}))
    assert status.main([output]) == 0
    said = capsys.readouterr().out
    assert "images      not yet listed" in said and "was killed" in said


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
    before = {"progress": {"listed": 100}}  # as its replicas start
    status.show(Status("s3://b/out", False, [], slices, before, alive=True))
    assert "done" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "{", '{"identity": 1}'])
def test_no_output(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None) -> None:
    if content:
        (tmp_path / "_run").mkdir()
        (tmp_path / "_run" / "run.json").write_text(content)
    assert status.main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("prelabel status: ") and str(tmp_path) in said and said.count("\n") == 1
