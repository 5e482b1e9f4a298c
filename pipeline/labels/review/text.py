"""A review for a person, on lines of at most 100 characters."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline import words
from pipeline.labels.truth import told

WIDEST = 26
COUNTS = ("shown", "kept", "moved", "relabelled", "deleted", "added")
NAMED = 5


def text(record: dict[str, Any]) -> str:
    """What `review` has returned."""
    categories = record["categories"]
    width = max([min(len(entry["name"]), WIDEST) for entry in categories] + [8])
    head = " ".join(f"{name:>{_wide(name)}}" for name in (*COUNTS, "precision", "recall"))
    lines = [f"{'category':{width}} {head}"]
    lines += [_row(entry["name"], entry, width) for entry in categories]
    lines += [_row("all", record["boxes"], width), ""]
    lines += [*_images(record), *_relabels(record), *_time(record)]
    return "\n".join(lines)


def _wide(name: str) -> int:
    return max(len(name), 7)


def _row(name: str, entry: dict[str, Any], width: int) -> str:
    cells = [f"{entry[key]:>{_wide(key)},}" for key in COUNTS]
    for key in ("precision", "recall"):
        value = entry[key]
        cells.append(f"{'-' if value is None else f'{value:.3f}':>{_wide(key)}}")
    return f"{words.printable(name, WIDEST):{width}} " + " ".join(cells)


def _images(record: dict[str, Any]) -> list[str]:
    images = record["images"]
    lines = [
        f"{images['reviewed']:,} images reviewed, {images['unchanged']:,} of them unchanged; "
        f"{record['edits']:,} edits,",
        f"{images['edits_mean']:.1f} per image (median {images['edits_median']:g}, at most "
        f"{images['edits_max']:,})",
    ]
    if images["not_reviewed"]:
        lines.append(f"not reviewed: {told(Counter(images['not_reviewed']))}")
    if count := images["not_in_the_run"]:
        lines.append(f"{words.count(count, 'image')} left out, of which the run has no detections")
    if record["boxes_left_out"]:
        lines.append(f"boxes left out: {told(Counter(record['boxes_left_out']))}")
    if count := record["crowds_left_out"]:
        lines.append(f"boxes left out: {count:,} of crowds")
    return lines


def _relabels(record: dict[str, Any]) -> list[str]:
    shown = [
        f"{words.printable(entry['from'], 30)} to {words.printable(entry['to'], 30)} "
        f"{entry['boxes']:,}"
        for entry in record["relabels"][:NAMED]
    ]
    heads = ["relabelled: ", *[" " * 12] * NAMED]
    return [f"{head}{line}" for head, line in zip(heads, shown, strict=False)]


def _time(record: dict[str, Any]) -> list[str]:
    time = record["time"]
    saved = time["minutes_saved"]
    said = f"about {abs(saved):,.0f} minutes {'saved' if saved >= 0 else 'lost'}"
    return [
        "",
        f"{said}: {time['minutes_without']:,.0f} to draw all boxes, {time['minutes_with']:,.0f} "
        "with those of the run",
        f"assumed: {time['seconds_per_look']:g} s to look at a box that is shown, and relabel or "
        f"delete it;",
        f"{time['seconds_per_box']:g} s to draw one, or to move it (medians of Su et al. 2012, "
        f"unless given)",
    ]
