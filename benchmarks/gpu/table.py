"""What was measured, for a person: one block of aligned columns a stage, then what is lacking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.gpu.visit import OK, Outcome

WIDTH, NAME, COLUMN = 118, 24, 9
# of each stage: what a row holds, the column's title, and its format
Columns = Sequence[tuple[str, str, str]]
MOVES: Columns = (
    ("boxes", "boxes", ",d"),
    ("tight", "tight", ".2%"),
    ("loose", "loose", ".2%"),
    ("counts_differ", "counts", "d"),
    ("score_mean", "score", ".1e"),
    ("score_p99", "p99", ".1e"),
    ("corner_mean", "corner", ".1e"),
    ("corner_p99", "p99", ".1e"),
)
RATE: Columns = (("rate", "images/s", ".1f"), ("least", "least", ".1f"), ("most", "most", ".1f"))
MEMORY: Columns = (("peak", "peak GB", ".2f"), ("held", "held GB", ".2f"))
COLUMNS: dict[str, Columns] = {
    "card": (("value", "", ",.4g"), ("unit", "", "s")),
    "same": (*MOVES[:6], ("corner_mean", "corner", ".1e"), ("bits", "bits", "s")),
    "moves": (*MOVES[1:], ("AP", "AP", ".4f")),
    "rates": (
        RATE[0],
        ("spread", "spread", ".1%"),
        ("to_loop", "x loop", ".2f"),
        ("to_best", "x best", ".2f"),
        ("floor", "of peak", ".1%"),
        *MEMORY,
        ("graphs", "graphs", "d"),
    ),
    "parts": (
        ("calls", "calls", "d"),
        ("busy", "ms", ".3f"),
        ("conv", "conv ms", ".3f"),
        ("gflop", "GFLOP", ",.0f"),
        ("floor", "of peak", ".1%"),
    ),
    "profile": (
        ("wall", "wall ms", ".2f"),
        ("busy", "busy ms", ".2f"),
        ("share", "busy", ".1%"),
        ("launches", "launches", ".0f"),
    ),
    "sweep": (*RATE, *MEMORY),
    "feed": (
        ("decode", "decode/s", ".1f"),
        ("engine", "engine/s", ".1f"),
        ("both", "both/s", ".1f"),
        ("share", "share", ".1%"),
    ),
    "stress": (*MOVES[:6], ("bits", "bits", "s"), *MEMORY),
}
LAST = "rates"


def table(rows: Sequence[dict[str, Any]], outcomes: Sequence[Outcome]) -> str:
    """All of it; what is asked for most comes last, where a terminal shows it.

    Args:
        rows: of the visit.
        outcomes: of its stages.
    """
    lines = []
    for outcome in sorted(outcomes, key=lambda outcome: outcome.stage == LAST):
        own = [row for row in rows if row["stage"] == outcome.stage and row["what"] != "outcome"]
        shown = [row for row in own if row.get("shown", True)]
        if shown:
            lines += [*_block(outcome.stage, shown), ""]
    lines.append(f"{'stage':{NAME}}{'seconds':>{COLUMN}}  what became of it")
    for outcome in outcomes:
        what = outcome.status if outcome.status == OK else f"{outcome.status}: {outcome.why}"
        lines.append(f"{outcome.stage:{NAME}}{outcome.seconds:{COLUMN}.1f}  {what}")
    return "\n".join(line[:WIDTH].rstrip() for line in lines)


def _block(stage: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    columns = [
        column
        for column in COLUMNS.get(stage, ())
        if any(row.get(column[0]) is not None for row in rows)
    ]
    titles = [title for _, title, _ in columns]
    longest = max(len(row["what"]) for row in rows) + 1
    width = max(NAME, min(longest, WIDTH - COLUMN * len(titles)))
    lines = [f"{stage:{width}}" + "".join(f"{title:>{COLUMN}}" for title in titles)]
    lines.append("-" * len(lines[0]))
    for row in rows:
        name = str(row["what"])
        if said := row.get("failed") or row.get("note"):
            lines.append(f"{name:{width - 1}} {'failed: ' if 'failed' in row else ''}{said}")
            continue
        cells = [_cell(row.get(key), form) for key, _, form in columns]
        lines.append(f"{name[: width - 1]:{width}}" + "".join(cells))
    return lines


def _cell(value: Any, form: str) -> str:
    text = "" if value is None else format(value, form)
    return f"{text:>{COLUMN}}"
