"""Globs as a shell has them, with braces and with `**` across folders."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from fsspec.utils import glob_translate

from pipeline.errors import UsageError


def expanded(pattern: str) -> list[str]:
    """The patterns that one with braces stands for, by bash's rule.

    Braces without a comma, or without their other half, are characters like any other.

    >>> expanded("{2024,2025}/*.{jp{g,eg},png}")[:3], expanded("{x}/{")
    (['2024/*.jpg', '2024/*.jpeg', '2024/*.png'], ['{x}/{'])
    """
    for start in (place for place, char in enumerate(pattern) if char == "{"):
        depth, cuts = 0, [start]
        for place, char in enumerate(pattern[start:], start):
            depth += (char == "{") - (char == "}")
            if depth == 1 and char == "," or not depth:
                cuts.append(place)
            if not depth:
                break
        if not depth and len(cuts) > 2:
            words = (pattern[first + 1 : last] for first, last in pairwise(cuts))
            tail = pattern[cuts[-1] + 1 :]
            return [pattern[:start] + end for word in words for end in expanded(word + tail)]
    return [pattern]


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a path, as a whole, is one that the pattern stands for.

    Raises:
        UsageError: it has `**` beside other characters.
    """
    try:
        translated = re.compile("|".join(map(glob_translate, expanded(pattern))))
    except ValueError as error:
        raise UsageError(
            f"the glob {pattern!r} has ** beside other characters: ** means any folders, and must "
            "be alone between slashes, as in **/*.jpg"
        ) from error
    return lambda path: bool(translated.match(path))


def reaches(pattern: str, folder: str) -> bool:
    """Whether the pattern may stand for a path somewhere below a folder.

    >>> [reaches("cam*/2024/**/*.jpg", name) for name in ("cam1", "cam1/2024/a/b", "cam1/2023")]
    [True, True, False]
    """
    names = folder.split("/")
    for parts in (one.split("/") for one in expanded(pattern)):
        fixed = parts[: parts.index("**")] if "**" in parts else parts
        is_deep = len(fixed) < len(parts) or len(fixed) > len(names)
        if is_deep and all(matcher(part)(name) for part, name in zip(fixed, names, strict=False)):
            return True
    return False


def folder(pattern: str) -> str | None:
    """The folder before a pattern's first wildcard; None if it has none."""
    wildcard = re.search(r"[*?\[{]" if len(expanded(pattern)) > 1 else r"[*?\[]", pattern)
    return pattern[: wildcard.start()].rpartition("/")[0] if wildcard else None
