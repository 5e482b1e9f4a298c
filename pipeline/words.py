"""Words and numbers for people: one line each, printable, without secrets."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import PurePath

# an http URL's scheme, user, host and path, query: the second and the last may be secrets
# but for what closes a quotation
SECRETS = re.compile(
    r"(https?://)(?:[^\s/?#@]*@)?([^\s?]*)(?:\?\S*?(?=[\"')\]>.,;:]*(?:\s|$)))?", re.IGNORECASE
)


def without_secrets(text: str) -> str:
    """A text that may hold http URLs, without their queries and user names.

    >>> without_secrets("GET https://me:word@host/a.jpg?signature=x failed")
    'GET https://host/a.jpg failed'
    """
    return SECRETS.sub(r"\1\2", text)


def printable(text: object, limit: int = 500) -> str:
    """At most `limit` characters, shortened in the middle, all visible: names may hold anything.

    Without the queries of http URLs, which may hold signatures.
    """
    whole = without_secrets(str(text))
    if len(whole) > limit:
        end = limit * 2 // 3  # the end of a path says more than its start
        whole = f"{whole[: limit - end - 1]}…{whole[-end:]}"
    hidden = "\N{REPLACEMENT CHARACTER}"
    return "".join(c if c.isprintable() or c == "\xa0" else hidden for c in whole)


def explain(error: BaseException) -> str:
    r"""An error's message in one line of at most 500 characters, without the queries of URLs.

    >>> explain(ValueError("of two\nlines"))
    'ValueError: of two lines'
    """
    return printable(" ".join(f"{type(error).__name__}: {error}".split()))


def count(number: int, noun: str = "") -> str:
    """A number with its thousands set apart, and its noun in the plural where it is not one.

    >>> count(1234), count(1, "box"), count(2, "box"), count(3, "image")
    ('1,234', '1 box', '2 boxes', '3 images')
    """
    if not noun:
        return f"{number:,}"
    plural = f"{noun}es" if noun.endswith(("x", "ch")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def duration(seconds: float) -> str:
    """A time span in its two largest units, rounded down.

    >>> duration(0.2), duration(42), duration(189), duration(3600), duration(190_000)
    ('under 1 s', '42 s', '3 min 9 s', '1 h', '2 d 4 h')
    """
    if 0 < seconds < 1:
        return "under 1 s"
    whole = int(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (name, length), (next_name, next_length) in zip(units, units[1:], strict=False):
        if whole >= length:
            rest = whole % length // next_length
            return f"{whole // length} {name}" + (f" {rest} {next_name}" if rest else "")
    return f"{whole} s"


def size(data: float) -> str:
    """Bytes, in powers of ten.

    >>> size(999), size(1234), size(56_000_000), size(7.8e13)
    ('999 bytes', '1.2 kB', '56 MB', '78.0 TB')
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if data < 999.5:
            digits = 0 if data >= 10 or unit == "bytes" else 1
            return f"{data:.{digits}f} {unit}"
        data /= 1000
    return f"{data:,.1f} TB"


def rate(value: float) -> str:
    """Images a second, without the unit, in two digits or more.

    >>> rate(1234.5), rate(56.4), rate(7.84), rate(0.0012)
    ('1,234', '56', '7.8', '0.0012')
    """
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def version() -> str:
    """The program's version; empty where it came as a working directory and is not installed."""
    try:
        return importlib.metadata.version("prelabel")
    except importlib.metadata.PackageNotFoundError:
        return ""


def versions(*packages: str) -> dict[str, str]:
    """Of packages, by their names."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def command(job: str) -> str:
    """What starts a job, in the way in which this process was started: `prelabel report` where the
    script of that name is at work, else `python -m jobs.report`.
    """
    by_script = PurePath(sys.argv[0]).stem == "prelabel"
    return f"prelabel {job}" if by_script else f"python -m jobs.{job}"
