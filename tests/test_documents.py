"""What the documents point to is there: files, headings, make targets, modules, functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("", "docs/", "deploy/", "benchmarks/")
DOCUMENTS = sorted(
    [*(page for folder in FOLDERS for page in ROOT.glob(f"{folder}*.md")), ROOT / "docs/llms.txt"]
)
# it names modules that are no more
HISTORY = ROOT / "CHANGELOG.md"
NOW = [path for path in DOCUMENTS if path != HISTORY]

LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
TARGET = re.compile(r"^make ([a-z][a-z-]*)", re.MULTILINE)
MODULE = re.compile(r"python -m ((?:jobs|benchmarks|tests|pipeline)(?:\.\w+)+)")
# lines of docs/troubleshooting.md that are not ours
RAY_SAYS = {
    "A worker died or was killed",
    "AuthenticationError",
    "ray job submit",
    "ray start",
}
FILE = re.compile(r"\b(?:pipeline|jobs|tests|benchmarks|deploy|docs)/[\w./-]*\.\w+")


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def prose(text: str) -> str:
    """The text without its code blocks: what stands there is no link and no heading."""
    return BLOCK.sub("", text)


def code(text: str) -> str:
    """The code in the text: its blocks, and a line for what stands between backticks elsewhere."""
    blocks = [match[0] for match in BLOCK.finditer(text)]
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", prose(text))])


def anchors(document: Path) -> set[str]:
    """Those that GitHub gives the headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*?) *$", prose(document.read_text()), re.MULTILINE):
        plain = LINK.sub(r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (same := f"{anchor}-{number}" if number else anchor) in found:
            number += 1
        found.add(same)
    return found


def links(document: Path) -> list[tuple[str, Path, str]]:
    """Text, file and anchor of each link that stays in the repository."""
    found = []
    for text, target in LINK.findall(prose(document.read_text())):
        if "://" not in target and not target.startswith("mailto:"):
            path, _, anchor = target.partition("#")
            found.append((text, (document.parent / path) if path else document, anchor))
    return found


def defined(file: Path) -> set[str]:
    """Classes, functions, methods and constants of a module; of methods as `Class.method`."""
    found: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")
            if isinstance(node, ast.Assign):
                names = (target.id for target in node.targets if isinstance(target, ast.Name))
                found.update(prefix + name for name in names)

    visit(ast.parse(file.read_text()).body, "")
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links(document: Path) -> None:
    wrong = []
    for text, path, anchor in links(document):
        if not path.exists():
            wrong.append(f"[{text}] leads to {path}, which is not there")
        elif anchor and anchor not in anchors(path):
            wrong.append(f"[{text}] leads to #{anchor}, which {path} has not")
    assert not wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_functions_behind_links(document: Path) -> None:
    """A link from a `name` to a module is to what the module calls so."""
    wrong = []
    for text, path, _ in links(document):
        name = re.fullmatch(r"`([A-Za-z_][\w.]*)`", text)
        if name and path.suffix == ".py" and path.exists() and name[1] not in defined(path):
            wrong.append(f"{path} defines no {name[1]}")
    assert not wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_make_targets(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert set(TARGET.findall(code(document.read_text()))) <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_modules_to_run(document: Path) -> None:
    modules = set(MODULE.findall(document.read_text()))
    paths = {name: ROOT / name.replace(".", "/") for name in modules}
    assert not [
        name
        for name, path in paths.items()
        if not (path.with_suffix(".py").exists() or (path / "__main__.py").exists())
    ]


@pytest.mark.parametrize("document", NOW, ids=name_of)
def test_files(document: Path) -> None:
    """Files that are named in the text alone, too."""
    named = set(FILE.findall(document.read_text()))
    assert not [name for name in named if not (ROOT / name).exists()]


def test_helpers_behind_links() -> None:
    """A row of a table that begins with a link to tests/support names what its links define."""
    document, wrong, rows = ROOT / "CONTRIBUTING.md", [], 0
    for row in re.findall(r"^\| \[.*?\]\(tests/support/.*\|$", document.read_text(), re.MULTILINE):
        rows += 1
        known = {name for _, file in LINK.findall(row) for name in defined(ROOT / file)}
        words = re.findall(r"`([A-Za-z_][\w.]*)`", row)
        wrong += [f"{word} of {row[:40]}" for word in words if word not in known]
    assert rows and not wrong


def texts(file: Path) -> Iterator[str]:
    """Those in a module's code, with `...` for what is put in."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        if isinstance(node, ast.JoinedStr):
            parts = [
                part.value if isinstance(part, ast.Constant) else "..." for part in node.values
            ]
            yield "".join(map(str, parts))


def test_the_lines_that_are_explained_are_said() -> None:
    """What stands between backticks in the first column; `...` is for what differs."""
    files = [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("jobs/*.py")]
    said = "\n".join(text for file in files for text in texts(file))
    page = (ROOT / "docs/troubleshooting.md").read_text()
    first = " ".join(re.findall(r"^\| (.*?) \| ", page, re.MULTILINE))
    ours = set(re.findall(r"`([^`]+)`", first)) - RAY_SAYS
    assert len(ours) > 5
    patterns = {line: re.escape(line).replace(r"\.\.\.", ".*?") for line in ours}
    assert not [line for line, pattern in patterns.items() if not re.search(pattern, said)]


def test_every_target_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    told = re.findall(r"^([a-z-]+):.* ## \S", makefile, re.MULTILINE)
    assert named and sorted(told) == sorted(named[1].split())


def test_the_anchors_are_github_s(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n## What's `x`, y?\n```\n# no heading\n```\n## [B](b.md)\n# A\n")
    assert anchors(page) == {"a", "whats-x-y", "b", "a-1"}
