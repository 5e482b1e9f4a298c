"""The table of flags says what the code does."""

from __future__ import annotations

from tests.support import flags


def test_the_table_is_that_of_the_code() -> None:
    assert flags.PAGE.read_text() == flags.page(), "python -m tests.support.flags writes it anew"


def test_every_job_is_in_it() -> None:
    jobs = {path.stem for path in (flags.ROOT / "jobs").glob("*.py")}
    assert jobs - {"__init__", "cli", "demo"} == set(flags.JOBS)
