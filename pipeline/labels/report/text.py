"""Words and numbers for people, safe to stand in HTML whatever they hold."""

from __future__ import annotations

import html
from datetime import UTC, datetime

from pipeline import storage

LONGEST = 500
NBSP = "\N{NO-BREAK SPACE}"


def escaped(text: object, limit: int = LONGEST) -> str:
    """Text for HTML content or an attribute in quotes: one line, shortened in the middle."""
    return html.escape(storage.printable(text, limit))


def count(number: int, noun: str = "") -> str:
    """`1,234`; with a noun, `1,234 boxes` or `1 box` for the nouns `boxes` or `box`."""
    if not noun:
        return f"{number:,}"
    plural = f"{noun}es" if noun.endswith("x") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


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


def rate(images: float, seconds: float) -> str:
    """`1,234`, `56`, `7.8` or `0.0012` images per second, without the unit."""
    value = images / seconds if seconds > 0 else 0.0
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if 0 < seconds < 1:
        return f"under 1{NBSP}s"
    if seconds < 90:
        return f"{seconds:.0f}{NBSP}s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes}{NBSP}min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}{NBSP}h {minutes}{NBSP}min" if minutes else f"{hours}{NBSP}h"
    days, hours = divmod(hours, 24)
    return f"{days}{NBSP}d {hours}{NBSP}h" if hours else f"{days}{NBSP}d"


def size(data: float) -> str:
    """`1.2 MB`, in powers of ten."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if data < 999.5:
            digits = 0 if data >= 10 or unit == "bytes" else 1
            return f"{data:.{digits}f}{NBSP}{unit}"
        data /= 1000
    return f"{data:,.1f}{NBSP}TB"


def moment(seconds: float) -> str:
    """A time since the epoch as `2026-11-01 20:15 UTC`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def span(start: float, end: float | None) -> str:
    """`2026-11-01 20:15 to 21:40 UTC`; the day twice if it changes."""
    if end is None:
        return moment(start)
    first, last = moment(start), moment(end)
    return f"{first[:16]} to {last[11:] if first[:10] == last[:10] else last}"
