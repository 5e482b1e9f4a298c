"""Which detections leave an output, and under which class name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import yaml

from pipeline.errors import UsageError, nearest_class
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.calibration import Calibration
from pipeline.labels.doubles import without_doubles


@dataclass(frozen=True)
class Classes:
    """The classes that are kept.

    Attributes:
        names: class names without repetition; their order is that of the YAML, or of label ids.
        ids: the smallest label id behind each, unique and at least 1; COCO's own ids where
            nothing is renamed.
        places: [largest label id + 1] int, label id to place in `names`, -1 for one left out.
        thresholds: [largest label id + 1] float32, the score below which a detection is left out.
        calibration: if any, by which scores become probabilities before they are compared.
        agnostic_nms: IoU above which a box is a double of a better one of any class, and left out;
            None leaves all.
    """

    names: list[str]
    ids: list[int]
    places: np.ndarray
    thresholds: np.ndarray
    calibration: Calibration | None = None
    agnostic_nms: float | None = None

    def __post_init__(self) -> None:
        if self.agnostic_nms is not None and not 0 < self.agnostic_nms < 1:
            raise UsageError(
                f"--agnostic-nms must be above 0 and below 1, not {self.agnostic_nms:g}"
            )

    def choose(self, boxes: BoxBatch) -> BoxBatch:
        """The detections that are kept, their labels turned into places in `names`."""
        return self.without_doubles(self.with_doubles(boxes))

    def without_doubles(self, chosen: BoxBatch) -> BoxBatch:
        """Of detections that are `with_doubles` those that are kept."""
        return without_doubles(chosen, self.agnostic_nms)

    def with_doubles(self, boxes: BoxBatch) -> BoxBatch:
        """As `choose`, without a look at `agnostic_nms`."""
        if self.calibration:
            boxes = self.calibration.calibrated(boxes)
        known = (boxes.labels >= 0) & (boxes.labels < len(self.places))
        labels = np.where(known, boxes.labels, 0)
        places = np.where(known, self.places[labels], -1)
        return boxes.keep((places >= 0) & (boxes.scores >= self.thresholds[labels]), places)


def choose(
    categories: Mapping[int, str],
    score_threshold: float = 0.0,
    thresholds: Mapping[str, float] | None = None,
    mapping: str | None = None,
    calibration: Calibration | None = None,
    agnostic_nms: float | None = None,
) -> Classes:
    """
    Args:
        categories: label id to name, of the run.
        score_threshold: keep detections of at least this score.
        thresholds: likewise by class, old name or new.
        mapping: YAML file; a list of the names to keep, or `name: new name` lines, where an empty
            new name keeps the old one and names that become equal are one class.
        calibration: of the run, if its scores shall be probabilities.
        agnostic_nms: see `Classes`.

    Raises:
        UsageError: an unknown name, a threshold outside of 0 to 1, an unreadable file.
    """
    chosen = _read(mapping, set(categories.values())) if mapping else None
    renamed = chosen if chosen is not None else {name: name for name in categories.values()}
    kept = _kept(categories, renamed, score_threshold, thresholds or {})
    return replace(kept, calibration=calibration, agnostic_nms=agnostic_nms)


def of_export(categories: Mapping[int, str], record: Mapping[str, Any]) -> Classes:
    """The classes and thresholds of an export of the same run.

    Args:
        categories: label id to name, of the run.
        record: the content of `export.json`.
    """
    renamed = {
        categories[label]: str(entry["name"])
        for entry in record["classes"]
        for label in entry.get("label_ids", [entry["id"]])
    }
    kept = _kept(categories, renamed, record["score_threshold"], record["thresholds"])
    return replace(kept, agnostic_nms=record.get("agnostic_nms"))


def _kept(
    categories: Mapping[int, str],
    renamed: Mapping[str, str],
    score_threshold: float,
    thresholds: Mapping[str, float],
) -> Classes:
    """
    Args:
        renamed: new names of those that are kept.
    """
    names = list(dict.fromkeys(renamed.values()))
    places = np.full(max(categories, default=0) + 1, -1)
    limits = np.full(len(places), _score(score_threshold, "--score-threshold"), np.float32)
    for label, name in categories.items():
        if name in renamed:
            places[label] = names.index(renamed[name])
    for name, limit in thresholds.items():
        labels = [k for k, v in categories.items() if name in (v, renamed.get(v))]
        if not labels:
            valid = {*categories.values(), *names}
            raise UsageError(f"--category has an unknown name {nearest_class(name, valid)}")
        limits[labels] = _score(limit, f"--category {name}")
    ids = [int(np.flatnonzero(places == place)[0]) for place in range(len(names))]
    return Classes(names, ids, places, limits)


def parse_assignments(words: list[str], form: str) -> dict[str, float]:
    """`["person=0.6", ...]` as a mapping.

    Args:
        words: as given by the user.
        form: what the flag takes, for the complaint: `--category NAME=SCORE`.

    Raises:
        UsageError: a word is not of that form.
    """
    found = {}
    for word in words:
        name, _, value = word.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            name = ""
        if not name:
            raise UsageError(f"{form} is the form of the flag, not {word!r}")
    return found


def _score(value: float, flag: str) -> float:
    if not 0 <= value <= 1:
        raise UsageError(f"{flag} must be within 0 and 1, not {value:g}")
    return value


def _read(path: str, valid: set[str]) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UsageError(f"cannot read --classes {path}: {why}") from error
    if isinstance(content, str):  # a name a line, which YAML takes for one text
        lines = map(str.strip, text.splitlines())
        content = [line for line in lines if line and not line.startswith("#")]
    pairs: list[tuple[Any, Any]]
    if isinstance(content, list):
        pairs = [(name, None) for name in content]
    elif isinstance(content, dict):
        pairs = list(content.items())
    else:
        raise UsageError(
            f"--classes {path} must hold a list of names, one name per line, or `name: new name` "
            "lines"
        )
    if not pairs:
        raise UsageError(f"--classes {path} keeps no class")
    for name, new in pairs:
        if not isinstance(name, str) or name not in valid:
            raise UsageError(
                f"--classes {path} has an unknown name {nearest_class(str(name), valid)}"
            )
        if new is not None and not (isinstance(new, str) and new.strip()):
            raise UsageError(f"--classes {path}: the new name of {name!r} must be text")
    return {name: name if new is None else new for name, new in pairs}
