"""What differs between a run and a call that would continue it, in the words of who typed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline import words
from pipeline.config import flag_of
from pipeline.options import FLAGS

NOT_GIVEN, GIVEN = "not given", "given"


def told(name: str, before: Any, now: Any) -> str:
    """The difference, and what to do.

    Args:
        name: of a field of the run's identity.
        before: its value in the run.
        now: another one.
    """
    return _of_model(before or {}, now) if name == "model" else _change(flag_of(name), before, now)


def _of_model(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    name, *others = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
    told = _change(FLAGS.get(name, f"model.{name}"), before.get(name), now.get(name))
    if others:
        told += f"; also changed: {', '.join(FLAGS.get(k, f'model.{k}') for k in others)}"
    elif name == "box_score_thresh" and now.get(name, 0) > before.get(name, 0):
        told += "; to see fewer boxes without a new run, give --score-threshold to report or export"
    return told


def _change(flag: str, before: Any, now: Any) -> str:
    way = f"give the same {flag}"
    if flag == "--categories":
        before = words.count(len(before or ()), "name")
        now = f"{words.count(len(now), 'name')}, not the same"
    elif flag == "--weights":
        before, now = (f"of sha256 {digest[:12]}" for digest in (before, now))
    else:
        before, now = map(_shown, (before, now))
        ways = {NOT_GIVEN: f"leave {flag} out", GIVEN: f"give {flag}"}
        way = ways.get(before, f"give {flag} {before}")
    return f"{flag} was {before} and is now {now}; choose another output, or {way}"


def _shown(value: Any) -> str:
    """A setting as it is typed."""
    if isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    if value in (None, "") or value is False:
        return NOT_GIVEN
    return GIVEN if value is True else str(value)
