"""`python -m benchmarks.gpu`, as far as a machine without a GPU can tell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import asserted, folder, table, visit
from benchmarks.gpu.plan import STAGES, Stage
from benchmarks.gpu.record import Record

# of a child that Python starts with this on its path: as if these were not installed
MISSING = """
import sys

class Missing:
    names = {"ray", "tenacity", "s3fs", "fsspec", "aiohttp", "yarl", "pyarrow", "pycocotools"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Missing())
"""
# `-c`: the command with its stages in its own process
IN_ONE = """
import os, sys
from benchmarks.gpu import __main__ as command, child, visit

def run(stage, asked, limit):
    failed = child.main(stage.name, stage.task, limit, asked)
    return visit.Outcome(stage.name, visit.FAILED if failed else visit.OK)

visit._run = run
code = command.main()
sys.stdout.flush()
os._exit(code)
"""
SIZE, PICTURES = (96, 64), 2
DRY = ["--device", "cpu", "--tiny"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights, pictures and annotations, as a training leaves them behind."""
    import torch  # late: the stages below are started from this module, and need none

    from pipeline.bench import mix, standin

    path = tmp_path_factory.mktemp("checkpoint")
    options = {"num_classes": 3, "min_size": 64, "max_size": 96, "rpn_post_nms_top_n_test": 8}
    state = standin.weights(options, SIZE[::-1]).state
    torch.save({name: torch.tensor(x) for name, x in state.items()}, path / "weights.pth")
    entries = [
        {"id": 5 - i, "file_name": f"{i}.jpg", "width": SIZE[0], "height": SIZE[1]}
        for i in range(PICTURES)
    ]
    random = np.random.default_rng(0)
    for entry in entries:
        Image.fromarray(mix.picture(*SIZE, random)).save(path / str(entry["file_name"]))
    truth = {"images": entries, "categories": [], "annotations": []}
    (path / "annotations.json").write_text(json.dumps(truth))
    return path


def packing(checkpoint: Path, target: Path, *more: str) -> list[str]:
    """The words of `--pack`."""
    words = ["--pack", str(target), "--weights", str(checkpoint / "weights.pth")]
    words += ["--images", str(checkpoint), "--annotations", str(checkpoint / "annotations.json")]
    return [*words, *more]


@pytest.fixture(scope="module")
def brought(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that is made of it."""
    target = tmp_path_factory.mktemp("packed") / "bring"
    model = json.dumps({"min_size": 48, "max_size": 72})
    assert command.main(packing(checkpoint, target, "--model", model)) == 0
    return target


# ------------------------------------------------------------------------------- dry runs


def visited(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A dry run in a process of its own, that has numpy, PIL and torch, and little else."""
    (out / "path").mkdir(parents=True)
    (out / "path" / "sitecustomize.py").write_text(MISSING)
    return subprocess.run(
        [sys.executable, *words, "--out", str(out), *DRY],
        env={**os.environ, "PYTHONPATH": str(out / "path")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_stages_run_where_little_is_installed(brought: Path, tmp_path: Path) -> None:
    """In one process, for torch takes longer to be imported than a stage to run."""
    done = visited(tmp_path, "-c", IN_ONE, "--bring", str(brought))
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "table.txt").read_text()
    assert text in done.stdout
    assert "Traceback" not in done.stdout + done.stderr  # where torch's profiler speaks, too
    assert max(map(len, text.splitlines())) <= table.WIDTH
    rows = visit.rows(tmp_path / "results.jsonl")
    assert not [row for row in rows if "failed" in row]
    outcomes = {row["stage"]: row["status"] for row in rows if row["what"] == "outcome"}
    assert outcomes == {stage.name: visit.OK for stage in STAGES}
    notes = {row["what"]: row["note"] for row in rows if "note" in row}
    assert notes["AP"] == "pycocotools is not installed here"
    assert notes["memory"] == "needs a GPU"
    assert " passed, " in notes["tests"] and not notes["tests"].endswith(", 0 skipped")
    assert notes["overflow: fp16 plain"].startswith("refused: ")
    figures = {(row["stage"], row["what"]): row for row in rows}
    assert figures["same", "fp32 plain"]["tight"] == 1
    assert figures["same", "fp32 plain"]["boxes"] > 0
    assert figures["stress", "overflow: fp32 plain"]["bits"] == "same"
    assert figures["rates", "loop"]["to_loop"] == 1
    assert "== fp16 plain: " in (tmp_path / "profile.txt").read_text()


def test_without_a_checkpoint_there_are_weights_that_stand_in(tmp_path: Path) -> None:
    done = visited(tmp_path / "out", "-m", "benchmarks.gpu", "--only", "sweep,moves")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["moves", "skipped"]
    assert lines[0].endswith("needs a trained checkpoint: --bring")
    assert lines[1].split()[:2] == ["sweep", "ok"]
    assert [
        row["what"] for row in visit.rows(tmp_path / "out" / "results.jsonl") if "rate" in row
    ] == ["fp16 plain, micro-batch 2"]


# -------------------------------------------------------------------------------- stages


def fine(record: Record) -> None:
    record.say("figure", value=7.0)


def raises(record: Record) -> None:
    record.say("figure", value=7.0)
    raise ValueError("no such\nthing")


def fails(record: Record) -> None:
    for number in range(3):
        record.attempt(f"step {number}", lambda: [][0])
    record.say("figure", value=7.0)


def hangs(record: Record) -> None:
    record.say("figure", value=7.0)
    other = subprocess.Popen(["sleep", "600"])
    record.say("other", note=str(other.pid))
    other.wait()


def is_killed(record: Record) -> None:
    record.say("figure", value=7.0)
    os.kill(os.getpid(), signal.SIGSEGV)


def asserts(record: Record) -> None:
    record.say("figure", value=7.0)
    file = Path(record.asked.out, "test_two.py")
    file.write_text("def test_a() -> None: ...\ndef test_b() -> None: assert 1 == 2, 'two'\n")
    asserted.asserted(record, file, [])


def leaves(record: Record) -> None:
    record.say("figure", value=7.0)
    os._exit(7)


def stage(name: str, limit: float = 60) -> Stage:
    return Stage(name, f"{__name__}:{name}", limit)


BROKEN = {
    "raises": "stage: ValueError: no such thing",
    "fails": "step 0: IndexError: list index out of range (and 2 more)",
    "hangs": "killed after its limit of 4 s",
    "is_killed": "its process was ended by SIGSEGV",
    "leaves": "exit code 7; see log.txt",
    "asserts": "test_b: AssertionError: two assert 1 == 2",
}


def test_a_broken_stage_costs_only_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = [stage(name, 4 if name == "hangs" else 60) for name in BROKEN] + [stage("fine")]
    assert command.main(["--out", str(tmp_path), *DRY], stages) == 1
    printed = capsys.readouterr()
    assert printed.err == "" and "Traceback" not in printed.out
    lines = printed.out.splitlines()[: len(stages)]
    assert [line.split()[:2] for line in lines] == [
        *([name, "failed"] for name in BROKEN),
        ["fine", "ok"],
    ]
    for line, why in zip(lines, BROKEN.values(), strict=False):
        assert line.endswith(f" s  {why}")
    rows = visit.rows(tmp_path / "results.jsonl")
    figures = [row["stage"] for row in rows if row.get("value") == 7.0]
    assert figures == [one.name for one in stages]
    # what a stage has started ends with it
    assert all(ended(int(row["note"])) for row in rows if row["what"] == "other")
    log = (tmp_path / "log.txt").read_text()
    assert "ValueError: no such" in log and "in hangs" in log


def ended(pid: int) -> bool:
    """Whether that process ends within a while."""
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        # whoever should have waited for it may be gone, too
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_stages_for_which_no_time_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--out", str(tmp_path), *DRY, "--seconds", "1"]
    assert command.main(words, [stage("fine")]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.split()[:2] == ["fine", "skipped"]
    assert line.endswith("the 1 s of --seconds are over")


# ---------------------------------------------------------------------------- user errors


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which a command is refused."""
    assert command.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("python -m benchmarks.gpu: ")
    return line.partition(": ")[2]


def test_no_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "gpus", lambda: 0)
    assert refused(capsys, "--out", str(tmp_path)).startswith("there is no GPU here; --device cpu")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_none_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "--out", str(tmp_path / "out"), *DRY, "--bring", str(tmp_path))
    assert line == f"{tmp_path} has no weights.pth; make the folder by --pack"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--out", "x", "--only", "card,cards"], "no stage 'cards'; there are card, same, "),
        ([], "where to? --out FOLDER"),
        (["--pack", "x"], "--pack takes --weights, --images and --annotations"),
    ],
)
def test_a_wrong_command_line(
    capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(words)
    assert why in capsys.readouterr().err


# -------------------------------------------------------------------------------- folder


def test_a_folder_has_a_limit(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folder, "LIMIT", 40_000_000)
    line = refused(capsys, *packing(checkpoint, tmp_path / "bring"))
    size, _, rest = line.partition(" ")
    assert 40 < float(size) < 50 and rest == "MB, and 40 MB is the limit of a folder"
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_packed(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "bring"
    words = packing(checkpoint, target)
    for name, text in (("damaged", b"no weights"), ("other", b"{}"), ("list", b"[1]")):
        (tmp_path / name).write_bytes(text)

    def other(place: int, value: Path) -> list[str]:
        return [*words[:place], str(value), *words[place + 1 :]]

    damaged = tmp_path / "damaged"
    assert refused(capsys, *other(3, damaged)).startswith(f"weights {damaged} cannot be loaded: ")
    for name in ("damaged", "other", "list", "absent"):
        path = tmp_path / name
        assert refused(capsys, *other(7, path)).startswith(f"annotations {path}: ")
    assert refused(capsys, *other(5, tmp_path)).startswith("annotations ")
    target.mkdir()
    (target / "file").touch()
    assert refused(capsys, *words) == f"{target} is not empty"
