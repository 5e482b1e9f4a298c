"""The table of flags says what the code does."""

from __future__ import annotations

import inspect

from torchvision.models.detection import FasterRCNN

from jobs import detect, plan
from pipeline.forecast import planning
from pipeline.options import SHORT
from tests.support import flags


def test_the_table_is_that_of_the_code() -> None:
    assert flags.PAGE.read_text() == flags.page(), "python -m tests.support.flags writes it anew"


def test_every_job_is_in_it() -> None:
    jobs = {path.stem for path in (flags.ROOT / "jobs").glob("*.py")}
    assert jobs - {"__init__", "__main__", "cli", "demo"} == set(flags.JOBS)


def test_the_groups_of_the_help() -> None:
    shown = [str(group.title) for group in detect.parser()._action_groups]
    assert shown[2:] == [*detect.GROUPS.values()]


def test_the_sample_of_a_plan() -> None:
    """Its default stands where importing it would bring torch, so the help has it in words."""
    gpus, cpus = planning.IMAGES["cuda"], planning.IMAGES["cpu"]
    said = " ".join(plan.parser().format_help().split())
    assert planning.TILED == 10
    assert f"(default {gpus} on GPUs, {cpus} on CPUs; with --tile a tenth of that)" in said


def test_the_defaults_of_the_network() -> None:
    """They are torchvision's, and the help says them in words."""
    defaults = inspect.signature(FasterRCNN).parameters
    helped = {action.dest: str(action.help) for action in detect.parser()._actions}
    for name, keyword in SHORT.items():
        assert helped[name].endswith(f"(default {defaults[keyword].default})")
