"""Words and numbers for people, safe to stand in HTML whatever they hold."""

from __future__ import annotations

import html
from datetime import UTC, datetime

from pipeline import words

LONGEST = 500
NBSP = "\N{NO-BREAK SPACE}"


def escaped(text: object, limit: int = LONGEST) -> str:
    """Text for HTML content or an attribute in quotes: one line, shortened in the middle."""
    return html.escape(words.printable(text, limit))


def compact(number: float) -> str:
    """At most four characters for the top of a bar: `950`, `1.2K`, `12K`, `3.4M`."""
    value, unit = float(number), ""
    for larger in ("K", "M", "B"):
        if value >= 999.5:
            value, unit = value / 1000, larger
    return (f"{value:.1f}".removesuffix(".0") if value < 9.95 else f"{value:.0f}") + unit


def percent(part: float, whole: float) -> str:
    """`12 %`; `0.3 %` below one, and never `0 %` or `100 %` of what is not none or all."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return f"under 0.1{NBSP}%"
    if 99.9 < share < 100:
        return f"over 99.9{NBSP}%"
    digits = 1 if 0 < share < 1 or 99 < share < 100 else 0
    return f"{share:.{digits}f}{NBSP}%"


def duration(seconds: float) -> str:
    """As `words.duration`, on one line."""
    return words.duration(seconds).replace(" ", NBSP)


def size(data: float) -> str:
    """As `words.size`, on one line."""
    return words.size(data).replace(" ", NBSP)


def rate(images: float, seconds: float) -> str:
    """Images a second, without the unit, as `words.rate` says it."""
    return words.rate(images / seconds if seconds > 0 else 0.0)


def moment(seconds: float) -> str:
    """A time since the epoch as `2026-11-01 20:15 UTC`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def span(start: float, end: float | None) -> str:
    """`2026-11-01 20:15 to 21:40 UTC`; the day twice if it changes."""
    if end is None:
        return moment(start)
    first, last = moment(start), moment(end)
    return f"{first[:16]} to {last[11:] if first[:10] == last[:10] else last}"
