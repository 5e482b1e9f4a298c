"""Braces, as bash expands them."""

from __future__ import annotations

import random
import subprocess

import pytest

from pipeline.errors import UsageError
from pipeline.inputs import exclusions, globs


def pattern(depth: int = 0) -> str:
    """A random one: letters, braces that are nested, and some without a comma."""
    parts = []
    for _ in range(random.randint(1, 3)):
        kind = random.random()
        if kind < 0.5 or depth == 3:
            parts.append(random.choice("abcx."))
        else:
            words = [pattern(depth + 1) for _ in range(random.randint(1 + (kind < 0.9), 3))]
            parts.append("{" + ",".join(words) + "}")
    return "".join(parts)


def test_braces_as_bash_expands_them() -> None:
    random.seed(4)
    patterns = ["{", "}", "{a", "a}", "x{,b}", "{a,{b}", "{}{a,b}", "{{a,b}}", "{a{b,c}}"]
    patterns += [pattern() for _ in range(80)]
    script = "\n".join(f"echo -E {one}" for one in patterns)
    said = subprocess.run(["bash", "-fc", script], capture_output=True, text=True, check=True)
    assert [line.split() for line in said.stdout.splitlines()] == list(
        map(globs.expanded, patterns)
    )


def test_the_folder_before_wildcards() -> None:
    assert globs.folder("b/in/x*.jpg") == "b/in" and globs.folder("b/{x}/a.jpg") is None
    assert globs.folder("b/{x,y}/*.jpg") == "b" and globs.folder("b/{x}/*.jpg") == "b/{x}"


def test_a_glob_that_means_nothing() -> None:
    with pytest.raises(UsageError, match="'a\\*\\*.jpg' has \\*\\* beside other characters"):
        exclusions.reasons(exclude=("b", "a**.jpg"))
