"""Fields of the JSON beside an image in an archive, as WebDataset has it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.inputs.containers.members import Broken, Entry

# larger files hold more than fields of one image
JSON_BYTES = 2**17
SAMPLE_FILES = 64  # that wait for their JSON
UNREADABLE = "/unreadable JSON file"


def images(
    entries: Iterator[Entry],
    carry: tuple[str, ...],
    left_out: Callable[[Entry], bool],
    passed: Counter[str],
) -> Iterator[tuple[Entry, dict[str, str | None]]]:
    """The entries that are images, each with the fields of the JSON next to it.

    Args:
        entries: of an archive. Those that follow each other and share their name up to its first
            dot are a sample, whose JSON it is.
        carry: names of the fields.
        left_out: whether an entry is no image.
        passed: counts JSON that cannot be read.
    """
    held: list[Entry] = []
    fields: dict[str, str | None] = {}
    key = None
    try:
        for entry in entries:
            if _sample(entry.name) != key or len(held) >= SAMPLE_FILES:
                yield from ((image, fields) for image in held)
                held, fields, key = [], {}, _sample(entry.name)
            if carry and entry.name.lower().endswith(".json"):
                fields = _fields(entry, carry, passed)
            elif not left_out(entry):
                held.append(entry)
    except (Broken, OSError):
        yield from ((image, fields) for image in held)
        raise
    yield from ((image, fields) for image in held)


def _sample(name: str) -> tuple[str, str]:
    folder, _, base = name.rpartition("/")
    return folder, base.partition(".")[0]


def _fields(entry: Entry, carry: tuple[str, ...], passed: Counter[str]) -> dict[str, str | None]:
    data = entry.start(entry.size) if entry.size <= JSON_BYTES else None
    try:
        found = json.loads(data or b"")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        passed[UNREADABLE] += 1
        return {}
    return {name: _text(found.get(name)) for name in carry}


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode(errors="replace").decode()  # JSON can escape what is no character
