"""The command `prelabel`: every job by one name."""

from __future__ import annotations

import importlib.metadata
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.__main__ import JOBS

SCRIPT = Path(sys.executable).with_name("prelabel")


def call(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_alone_it_shows_the_jobs() -> None:
    code, out, err = call()
    assert code == 0 and err == "" and out == call("--help")[1]
    shown = {
        line.split()[0]: line.split(maxsplit=1)[1] for line in out.splitlines()[4 : 4 + len(JOBS)]
    }
    assert tuple(shown) == JOBS and all(line[0].isupper() for line in shown.values())
    assert all(len(line) <= 100 for line in out.splitlines())


def test_version() -> None:
    version = importlib.metadata.version("prelabel")
    assert call("--version") == (0, f"prelabel {version}\n", "")


def test_a_typo() -> None:
    complaint = "prelabel: unknown job 'detct' (did you mean 'detect'?); see prelabel --help\n"
    assert call("detct") == (2, "", complaint)


def test_every_job_is_one() -> None:
    files = {path.stem for path in Path(__file__).parents[2].glob("jobs/*.py")}
    assert files - {"__init__", "__main__", "cli"} == set(JOBS)


@pytest.mark.parametrize("job", ["detect", "plan", "demo"])
def test_a_job_is_called_as_it_was_started(job: str) -> None:
    code, out, _ = call(job, "--help")
    assert code == 0 and out.startswith(f"usage: prelabel {job} ")
    code, out, err = call(job, "--inptu")
    assert (code, out) == (2, "") and err.startswith(f"prelabel {job}: unknown argument '--inptu'")


def test_a_job_by_its_file() -> None:
    """Where a file of ours would be taken for a module of Python's own."""
    file = Path(__file__).parents[2] / "jobs" / "evaluate.py"
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=60)
    said = "a job is started by `prelabel JOB`, or by `python -m jobs.JOB`\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


@pytest.mark.parametrize("name", ["prelabel", "-m", "program"])
def test_an_interruption_before_a_job_began(name: str) -> None:
    """One line, unless the package is imported by another program."""
    code = f"import sys; sys.argv[0] = {name!r}; import jobs; raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGINT
    assert (done.stderr == "prelabel: interrupted\n") == (name != "program")


@pytest.mark.parametrize("module,text", [("fsspec", "no module fsspec"), ("jobs.absent", "Trace")])
def test_a_python_without_the_packages(module: str, text: str) -> None:
    """As a cluster's may be, on whose nodes nothing was installed: one line, and usage's code."""
    code = f"import sys; sys.argv[0] = '-m'; sys.modules[{module!r}] = None; import jobs; "
    code += f"import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert text in done.stderr
    if module == "fsspec":
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "--runtime-env runtime_env.yaml" in done.stderr
