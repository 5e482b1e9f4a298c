"""The names of a network's classes, from whatever file a person keeps them in."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from pipeline.errors import UsageError
from pipeline.words import explain, printable, without_secrets

FORMS = "text with one name per line, CSV (1,name), YAML or JSON with a list or ids, or COCO JSON"
# keys under which other programs keep the names
KEYS = ("categories", "id2label", "names", "classes")
HEADS = {"name", "names", "class", "classes", "label", "labels", "category", "categories"}
HEADS |= {f"{name}_name" for name in ("class", "label", "category", "display")}
WHOLE = re.compile(r"\s*\d+\s*")
UNNAMED = "N/A"  # torchvision's and others' word for a label without a class


class _OddError(ValueError):
    """What is wrong with a file, for a person."""


@dataclass(frozen=True)
class _Named:
    """Names as a file has them.

    Attributes:
        names: without what surrounds them.
        ids: of each; None where the file numbers none, so that they count from 1.
        roots: ids of what is no class itself but holds the others, as Roboflow writes one.
    """

    names: list[str]
    ids: list[int] | None = None
    roots: set[int] = field(default_factory=set)


def parse(data: bytes, url: str, weights: str, classes: int | None) -> dict[int, str]:
    """Label id to name, background left out.

    Names without ids count from 1, and must be as many as the network has classes. Ids may have
    gaps, as COCO's have, but must end with the network's last. Ids that begin at 0 count from 0.

    Args:
        data: of the file.
        url: of the file.
        weights: as the user names them.
        classes: of the network, background included; None for one that is made for these.

    Raises:
        UsageError: it names no classes, one twice, or others than the network's.
    """
    try:
        named = _read(_text(data), without_secrets(url).rpartition("/")[2].lower())
        classes = _counted(named) if classes is None else classes
        found = _without_background(named, classes)
        if repeated := _repeated([name for name in found.values() if name != UNNAMED]):
            raise _OddError(f"it has the name {repeated!r} twice")
    except _OddError as error:
        raise UsageError(f"cannot read categories {url}: {error}") from error
    if not found or min(found) < 1 or max(found) != classes - 1:
        raise UsageError(
            f"categories {url} name {len(named.names)} classes with ids up to "
            f"{max(found, default=0)}, but weights {weights} have {classes - 1} beside the "
            f"background"
        )
    return found


def _text(data: bytes) -> str:
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise _OddError("it is not text in UTF-8; save it as UTF-8") from error
    if re.search(r"[\x00-\x08\x0e-\x1f]", text):
        raise _OddError("it is not text, or not in UTF-8; save it as text in UTF-8")
    return text


def _without_background(named: _Named, classes: int) -> dict[int, str]:
    """Label id to name: what stands for the background is left out, ids from 0 are moved."""
    names, last = named.names, classes - 1
    if named.ids is None:
        skipped = len(names) == classes and _is_background(names[0])
        return dict(enumerate(names[skipped:], start=1))
    found = dict(sorted(zip(named.ids, names, strict=True)))
    if len(found) < len(names):
        raise _OddError(f"it has the id {_repeated(named.ids)} twice")
    if 0 not in found:
        return found
    background = _is_background(found[0]) or found[0] == UNNAMED or 0 in named.roots
    if max(found) == last and background:
        return {label: name for label, name in found.items() if label}
    if max(found) == last - 1 and not _is_background(found[0]):
        return {label + 1: name for label, name in found.items()}
    return found


def _counted(named: _Named) -> int:
    """Classes of a network that has those of the file, background included."""
    if named.ids is None:
        return len(named.names) + (not _is_background(named.names[0]))
    first = dict(zip(named.ids, named.names, strict=True)).get(0)
    counts_background = first is None or _is_background(first) or 0 in named.roots
    return max(named.ids) + (1 if counts_background or first == UNNAMED else 2)


def _is_background(name: str) -> bool:
    return name.strip("_ ").casefold() == "background"


def _repeated(values: list[Any]) -> Any:
    return next((value for value, count in Counter(values).items() if count > 1), None)


# ------------------------------------------------------------------------------- forms


def _read(text: str, name: str) -> _Named:
    if text.lstrip().startswith(("{", "[")) or name.endswith(".json"):
        try:
            content = json.loads(text)
        except ValueError as error:
            if name.endswith(".json"):
                raise _OddError(f"it is not valid JSON ({explain(error)})") from error
        else:
            return _of_content(content)
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and line != "---" and line[0] != "#"]
    dashes = sum(line.startswith("- ") for line in lines)
    is_flow = text.strip().startswith("[") and text.strip().endswith("]")
    is_map = all(re.match(r"\d+\s*:\s", line) for line in lines)
    has_key = any(re.match(r"(names|id2label|categories)\s*:", line) for line in lines)
    if not lines:
        raise _OddError("it is empty")
    if name.endswith((".yaml", ".yml")) or dashes == len(lines) or is_flow or is_map or has_key:
        return _of_yaml(text, lines)
    if dashes:
        raise _OddError("some of its lines begin with '- ' and some do not")
    return _of_table(lines, name.endswith((".csv", ".tsv")))


def _of_yaml(text: str, lines: list[str]) -> _Named:
    try:
        content = yaml.load(text, yaml.BaseLoader)  # which leaves `no` and `1` as they stand
    except yaml.YAMLError as error:
        raise _OddError(f"it is not valid YAML ({explain(error)})") from error
    # names without dashes are one text to YAML
    return _of_content(lines if isinstance(content, str) else content)


def _of_content(content: Any) -> _Named:
    if isinstance(content, list) and content:
        if all(isinstance(entry, dict) for entry in content):
            return _of_entries(content)
        return _Named([_name(entry) for entry in content])
    if isinstance(content, dict):
        for key in KEYS:
            if isinstance(value := content.get(key), list | dict) and value:
                return _used(_of_content(value), content)
        pairs = content.get("label2id", content)
        if isinstance(pairs, dict) and pairs:
            for ids, names in ((pairs.keys(), pairs.values()), (pairs.values(), pairs.keys())):
                if all(map(_is_id, ids)):
                    return _Named([_name(name) for name in names], [int(k) for k in ids])
    raise _OddError(f"it is not one of {FORMS}")


def _of_entries(entries: list[dict[str, Any]]) -> _Named:
    """Of COCO's `categories`, or the same without ids."""
    names = [_name(entry.get("name")) for entry in entries]
    if not any("id" in entry for entry in entries):
        return _Named(names)
    if odd := [entry for entry in entries if not _is_id(entry.get("id"))]:
        raise _OddError(
            f"it has a category whose id is not a whole number: {printable(odd[0], 80)}"
        )
    top = [e for e in entries if str(e.get("supercategory", "")).casefold() == "none"]
    roots = {int(top[0]["id"])} if len(top) == 1 < len(entries) else set()
    return _Named(names, [int(entry["id"]) for entry in entries], roots)


def _used(named: _Named, content: Mapping[str, Any]) -> _Named:
    """The same, without a root that the file's own annotations have boxes of."""
    boxes = content.get("annotations") if named.roots else None
    used = {box.get("category_id") for box in boxes or () if isinstance(box, dict)}
    return _Named(named.names, named.ids, named.roots - used)


def _of_table(lines: list[str], is_csv: bool) -> _Named:
    """Of CSV with ids, with or without a head; else each line is a name."""
    for separator in ",;\t":
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
        if len(rows[0]) < 2 or len({len(row) for row in rows}) > 1:
            continue
        head = [] if any(map(_is_id, rows[0])) else [cell.casefold() for cell in rows.pop(0)]
        columns = list(zip(*rows, strict=True))
        numbered = [n for n, column in enumerate(columns) if all(map(_is_id, column))]
        called = [n for n, cell in enumerate(head) if cell in HEADS and n not in numbered[:1]]
        others = [n for n in range(len(columns)) if n not in numbered[:1]]
        column = called[0] if called else others[0] if len(others) == 1 else None
        if numbered and column is not None:
            names = [_name(name) for name in columns[column]]
            return _Named(names, [int(k) for k in columns[numbered[0]]])
        if is_csv:
            raise _OddError("its columns are not an id and a name")
    if is_csv:
        lines = [row[0].strip() for row in csv.reader(lines) if row]
        lines = lines[1:] if lines[0].casefold() in HEADS else lines
        if not lines:
            raise _OddError("it has a header line but no names")
    return _Named([_name(line) for line in lines])


def _is_id(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and bool(WHOLE.fullmatch(value)))


def _name(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise _OddError(f"{printable(repr(value), 80)} is not the name of a class")
    return str(value).strip()
