"""The codes of errors are those that docs/images.md promises."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import STAGE_CODES, Code

PAGE = Path(__file__).parents[1] / "docs/images.md"
HEAD = "| `error_stage` | `error_code` |\n| --- | --- |\n"


def promised() -> dict[str, tuple[str, ...]]:
    """Stage to codes, as the page's table has them."""
    table = PAGE.read_text().partition(HEAD)[2].partition("\n\n")[0]
    stages = {}
    for line in table.splitlines():
        stage, codes = line.strip("| ").split(" | ")
        stages[stage.strip("`")] = tuple(re.findall(r"`(\w+)`", codes))
    return stages


def test_the_page_names_every_code() -> None:
    assert promised() == STAGE_CODES


def test_no_code_is_without_a_stage() -> None:
    assert {code for codes in STAGE_CODES.values() for code in codes} == set(Code)
