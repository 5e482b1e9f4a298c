"""The table of every job's flags, from the code.

`python -m tests.support.flags` writes deploy/flags.md.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from jobs import __main__ as prelabel

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "deploy" / "flags.md"
JOBS = tuple(job for job in prelabel.JOBS if job != "demo")  # which has none
HEAD = """\
# Every flag

Written by `python -m tests.support.flags` from what `--help` says. The fields of `pipeline.Config`,
which YAML files may hold, are described in [pipeline/config.py](../pipeline/config.py).
`prelabel plan` has those of `prelabel detect`, too, but for `--output`, `--refresh` and
`--dry-run`.
"""


def parser_of(job: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = importlib.import_module(f"jobs.{job}").parser()
    return parser


def table(job: str) -> str:
    """A job's arguments, a row each."""
    parser = parser_of(job)
    shown = {action.dest for action in parser_of("detect")._actions} if job == "plan" else set()
    lines = [f"## prelabel {job}", "", str(parser.description), "", "| | |", "| --- | --- |"]
    for action in parser._actions:
        if "--help" in action.option_strings or action.dest in shown:
            continue
        name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        value = ""
        if action.option_strings and action.nargs != 0:
            value = f" {action.metavar or '{' + ','.join(map(str, action.choices or ())) + '}'}"
        more = " ..." if action.nargs in ("+", "*") else ""
        text = " ".join(str(action.help or "").split()).replace("%%", "%").replace("|", "\\|")
        lines.append(f"| `{name}{value}{more}` | {text} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *map(table, JOBS)])


if __name__ == "__main__":
    PAGE.write_text(page())
