"""`jobs.bench` as a command: its mistakes, and all of it once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import bench


@pytest.mark.parametrize(
    "flags,complaint",
    [
        ("--qiuck", "unknown argument '--qiuck' (did you mean '--quick'?)"),
        ("--min-size 8", "--min-size must be at least 32, not 8"),
        ("--max-size many", "--max-size must be a whole number, not 'many'"),
        ("--json /nowhere/x.json", "cannot write --json /nowhere/x.json"),
        ("--json {here}", "cannot write --json {here}"),
        ("--weights {here}/none.pth", "none.pth: it does not exist"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    tmp_path: Path, flags: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(flags.format(here=tmp_path).split()) == 2
    out, err = capsys.readouterr()
    assert complaint.format(here=tmp_path) in err and err.count("\n") == 1 and out == ""


def test_without_ray_there_is_no_run_from_end_to_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert bench.main([]) == 2
    assert "pass --no-pipeline" in capsys.readouterr().err


@pytest.mark.soak
def test_the_whole_command(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    flags = ["--quick", "--min-size", "64", "--max-size", "128", "--json", str(path)]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.bench", *flags], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "End to end" in done.stdout
    figures = json.loads(path.read_text())
    run = figures["pipeline"]
    assert run["images"] == figures["extent"]["piped"]
    assert 0 < run["images"] / run["seconds"] < run["images_per_second"]
