"""What a listing passes over, as it is no image: counted by its ending or the reason, and told."""

from __future__ import annotations

import logging
from collections import Counter

from pipeline import words
from pipeline.config import ARCHIVE_EXTENSIONS, VIDEO_EXTENSIONS, Config
from pipeline.inputs.source import Source

log = logging.getLogger(__name__)
# so many endings are told apart: those of DICOM's UIDs are as many as files
MOST_ENDINGS, OTHERS = 1000, "/other ending"
# for which a flag is named, however late they come
NAMED = {"", *ARCHIVE_EXTENSIONS, *VIDEO_EXTENSIONS}
# so many are named to a person
SHOWN = 8


def count(passed: Counter[str], kind: str, number: int = 1) -> None:
    """Count files that are passed over, by their ending or by the reason."""
    is_told_apart = kind.startswith("/") or kind in NAMED or kind in passed
    passed[kind if is_told_apart or len(passed) < MOST_ENDINGS else OTHERS] += number


def say(config: Config, source: Source) -> None:
    """Which files were not taken for images, lest someone miss them."""
    if source.passed and source.is_table:
        log.info("passed over %s", _kinds(source))
    elif source.passed:
        others = any(not name.startswith("/") for name in source.passed)
        more = "; --extensions sets what is read" if others else ""
        hint = "".join(f", {flag} reads {found}" for found, flag in ways(config, source))
        log.info("passed over %s%s%s", told(source), more, hint)


def ways(config: Config, source: Source) -> list[tuple[str, str]]:
    """Files that were passed over, as `2 archives`, and the flag with which they are read."""
    endings = [ending for ending in ARCHIVE_EXTENSIONS if source.passed[ending]]
    kinds = [
        (sum(source.passed[e] for e in endings), "archive", f"--extensions {' '.join(endings)}"),
        (sum(source.passed[e] for e in VIDEO_EXTENSIONS), "video", "--fps 1"),
        (0 if config.sniff else source.passed[""], "file", "--sniff"),
    ]
    tails = {"file": " without an ending"}
    return [
        (words.count(number, noun) + tails.get(noun, ""), flag)
        for number, noun, flag in kinds
        if number
    ]


def told(source: Source) -> str:
    """For instance `4 files: 1 by-product, 2 .heic, 1 without an ending`."""
    return f"{words.count(source.passed.total(), 'file')}: {_kinds(source)}"


def _kinds(source: Source) -> str:
    # reasons before endings, of which there may be many
    ranked = sorted(source.passed.most_common(), key=lambda kind: not kind[0].startswith("/"))
    common = [kind for kind in ranked if kind[0] != OTHERS][:SHOWN]
    kinds = [_kind(name, number) for name, number in common]
    if left := source.passed.total() - sum(number for _, number in common):
        kinds.append(f"{left:,} others")
    return ", ".join(kinds)


def _kind(name: str, number: int) -> str:
    if name.startswith("/"):
        return words.count(number, name[1:])
    return f"{number:,} .{name}" if name else f"{number:,} without an ending"
