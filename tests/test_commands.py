"""What the documents tell users to type is what the jobs take."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from jobs import detect
from jobs.__main__ import JOBS
from pipeline.config import Config, from_yaml
from pipeline.errors import UsageError
from tests.support.documents import ROOT, USER_PAGES, blocks, commands, job_of, name_of
from tests.support.flags import parser_of

OURS = [(name_of(page), line) for page in USER_PAGES for line, _ in commands(page) if job_of(line)]
# commands that other tests look at: make targets, and modules that can be run
OTHERS = ("make ", "python -m benchmarks.", "python -m tests.")
FLAGS = {job: set(parser_of(job)._option_string_actions) for job in JOBS}


def inline(page: Path) -> list[str]:
    """What stands between backticks in the text of a page."""
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.M | re.S)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


def check(line: str) -> None:
    """
    Raises:
        UsageError: the job would not take it.
    """
    job, arguments = job_of(line) or ("", [])
    given = parser_of(job).given(arguments)  # type: ignore[attr-defined]
    given.pop("config", None)
    if job == "detect" and {"input", "output"} <= given.keys():
        for flag in ("refresh", "dry_run"):
            given.pop(flag, None)
        detect.configured(given)


@pytest.mark.parametrize("page,line", OURS)
def test_the_job_takes_it(page: str, line: str) -> None:
    check(line)


def test_the_pages_have_commands_and_a_slip_is_seen() -> None:
    assert len(OURS) > 10
    for line in ("prelabel detect --inptu x", "python -m jobs.select labels --budget many"):
        with pytest.raises(UsageError):
            check(line)


@pytest.mark.parametrize("page", USER_PAGES, ids=name_of)
def test_other_commands_are_marked(page: Path) -> None:
    """A block begins with `# not run` if it holds what is neither ours nor looked at elsewhere."""
    plain = [line for line, marked in commands(page) if not marked]
    assert not [line for line in plain if not job_of(line) and not line.startswith(OTHERS)]


@pytest.mark.parametrize(
    "page", [page for page in USER_PAGES if page.parent.name != "deploy"], ids=name_of
)
def test_flags_in_the_text(page: Path) -> None:
    wrong = []
    for code in inline(page):
        job, arguments = job_of(code) or ("", [])
        known = FLAGS[job] if job in FLAGS else set().union(*FLAGS.values())
        if job or code.startswith("--"):
            words = arguments or code.split()
            wrong += [code for word in words if word[:2] == "--" and word not in known]
    assert not wrong


def test_the_readme_shows_what_the_picture_shows() -> None:
    (block,) = blocks(ROOT / "README.md", "console")
    drawn = ElementTree.parse(ROOT / "docs/terminal.svg").iter()
    shown = {(node.text or "").replace("\N{NO-BREAK SPACE}", " ") for node in drawn}
    said = [line for line in block.splitlines() if not line.startswith(("$", " "))]
    assert len(said) > 5 and set(said) <= shown


@pytest.mark.parametrize("page", USER_PAGES, ids=name_of)
def test_yaml_is_a_run_s(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "yaml"):
        file = tmp_path / "run.yaml"
        file.write_text(block)
        Config(**{"input": "in", "output": "out"} | from_yaml(str(file)))


def test_extras_are_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [code for page in USER_PAGES for code in inline(page) if "'.[" in code]
    extras = {name for code in named for name in re.findall(r"\.\[(.*?)\]", code)[0].split(",")}
    there = project["optional-dependencies"].keys()
    assert extras and extras <= there
    # an extra that cannot be installed is seen where the tests' own packages are
    (tested,) = re.findall(r"prelabel\[(.*?)\]", " ".join(project["optional-dependencies"]["test"]))
    assert {*tested.split(","), "test"} == there


def test_each_page_is_in_the_indexes() -> None:
    pages = {path.name for path in ROOT.glob("docs/*.md")} - {"README.md"}
    for index in ("README.md", "docs/README.md", "docs/llms.txt"):
        listed = set(re.findall(r"\((?:docs/)?(\w+\.md)\)", (ROOT / index).read_text()))
        assert pages <= listed, index
    (jobs,) = re.findall(r"Jobs: ([^.]*)\.", (ROOT / "docs/llms.txt").read_text())
    assert tuple(re.findall(r"\w+", jobs)) == JOBS
