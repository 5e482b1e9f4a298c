"""Commands and code of the documents that users read."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
USER_PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "deploy/README.md"]
# how a block begins whose commands no test runs
NOT_RUN = "# not run"

BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
JOB = re.compile(r"(?:\bprelabel|\bpython -m jobs[. ]) *(?=\w)")


def blocks(page: Path, language: str) -> list[str]:
    """The code of a page's blocks of a language, "" for blocks that name none."""
    found = BLOCK.finditer(page.read_text())
    return [textwrap.dedent(match[3]) for match in found if match[2] == language]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(page: Path) -> list[tuple[str, bool]]:
    """The command lines of a page's blocks, and whether they are marked as not run.

    A block without a language holds commands alone; in one of a console they begin with `$ `.
    """
    found = []
    for block in blocks(page, ""):
        marked = block.startswith(NOT_RUN)
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        plain = [re.sub(r"(^|\s+)#\s.*", "", line) for line in lines]
        found += [(line, marked) for line in plain if line]
    for block in blocks(page, "console"):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        found += [(line[2:], False) for line in lines if line.startswith("$ ")]
    return found


def job_of(line: str) -> tuple[str, list[str]] | None:
    """Name and arguments of the job that a command line calls, if it calls one of ours."""
    match = JOB.search(line)
    if not match:
        return None
    name, *arguments = shlex.split(line[match.end() :])
    return name, arguments
