"""The tests that only a GPU can run, by pytest, which need not be there."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from benchmarks.gpu.record import Record

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests/network/test_on_a_gpu.py"
# each of which takes seconds to begin, and compiles kernels then
PROCESSES = 8


def run(record: Record) -> None:
    if importlib.util.find_spec("pytest") is None:
        record.say("tests", note="pytest is not installed here")
        return
    several = record.asked.device == "cuda" and importlib.util.find_spec("xdist") is not None
    asserted(record, TESTS, ["-n", str(PROCESSES)] if several else [])


def asserted(record: Record, file: Path, words: list[str]) -> None:
    """A row of each test, and of how many passed."""
    import pytest  # late: see above

    noted = Noted(record)
    # without the project's settings and fixtures, which need all that it needs
    alone = ["--noconftest", "-c", os.devnull, "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    code = pytest.main([*alone, "-q", *words, str(file)], plugins=[noted])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        record.fail("tests", f"pytest ended with {code}; see log.txt")
    record.say("tests", note=f"{noted.passed} passed, {noted.skipped} skipped")


class Noted:
    """A plugin that writes down what becomes of each test."""

    def __init__(self, record: Record) -> None:
        self.record, self.passed, self.skipped = record, 0, 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = report.nodeid.rpartition("::")[2]
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.record.fail(name, crash.message if crash else report.longreprtext)
        elif report.skipped:
            self.skipped += 1
        elif report.when == "call":
            self.passed += 1
            self.record.say(name, seconds=round(report.duration, 1), shown=False)
