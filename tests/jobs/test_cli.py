"""What all jobs share: log lines and the last one."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path

import pytest

from jobs import cli, detect, export
from pipeline.errors import RunError, UsageError


class Terminal(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "stream,expected", [(Terminal(), "\r\x1b[Ka line\n"), (io.StringIO(), "a line\n")]
)
def test_a_log_line_takes_the_place_of_the_live_one(stream: io.StringIO, expected: str) -> None:
    handler = cli.LineHandler(stream)
    handler.handle(logging.LogRecord("pipeline", logging.INFO, __file__, 1, "a line", None, None))
    assert stream.getvalue() == expected


def test_an_empty_value_is_no_value() -> None:
    """As of a variable that a script has not set: all images would have been exported."""
    with pytest.raises(UsageError, match="^--images is empty; see --help$"):
        export.parser().given(["labels", "--images", ""])
    with pytest.raises(UsageError, match="^--uri-column is empty; see --help$"):
        detect.parser().given(["--uri-column", ""])
    assert export.parser().given(["labels", "--image-prefix", ""])["image_prefix"] == ""


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for named in (str(tmp_path / "pipe"), "/dev/stdout"):
        with pytest.raises(UsageError, match="a pipe, which would be replaced; give the name of"):
            cli.Target("--to", named, "report.html")
    with pytest.raises(
        UsageError, match="is a folder; give the name of a file, such as report.html"
    ):
        cli.Target("--to", str(tmp_path), "report.html")


def test_what_an_error_noted_stands_before_what_always_holds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def job(arguments: list[str]) -> int:
        error = RunError("the store is gone")
        error.add_note("3 images are written")
        raise error

    assert cli.main("detect", job, [], "the same command continues") == 1
    told = "the store is gone; 3 images are written; the same command continues"
    assert capsys.readouterr().err == f"prelabel detect: {told}\n"


def test_of_other_libraries_only_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    def job(arguments: list[str]) -> int:
        for name in ("pipeline.driver", "botocore.credentials"):
            assert logging.getLogger(name).isEnabledFor(logging.INFO) == (name[0] == "p")
        return 0

    assert cli.main("detect", job, [], "") == 0


def test_an_output_that_nobody_reads_any_more_is_no_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind `| head`; a connection that breaks is one."""

    def job(arguments: list[str]) -> int:
        raise BrokenPipeError("broken")

    assert cli.main("status", job, [], "kept") == 1
    assert "BrokenPipeError: broken" in capsys.readouterr().err
    reads, writes = os.pipe()
    os.close(reads)
    with (
        open(writes, "wb", buffering=0) as raw,
        io.TextIOWrapper(raw, write_through=True) as closed,
    ):
        monkeypatch.setattr("sys.stdout", closed)  # as with PYTHONUNBUFFERED
        assert cli.main("status", lambda _: print("a line") or 0, [], "kept") == 141
        monkeypatch.undo()
    assert capsys.readouterr().err == ""
