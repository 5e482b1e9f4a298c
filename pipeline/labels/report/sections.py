"""The parts of a report that are words, numbers and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline import words
from pipeline.labels.output import Output
from pipeline.labels.report import charts, text, throughput
from pipeline.labels.report.statistics import NAMED_FAILURES, Statistics
from pipeline.store import urls

LINES_AT_ONCE = 20


def tiles(found: Statistics, attempts: Sequence[throughput.Stretch]) -> str:
    """The numbers to see first."""
    shown = int(found.scores[:, found.threshold :].sum())
    empty = int(found.per_image[found.threshold, 0])
    failed = found.images - found.ok
    images, wall = throughput.overall(attempts)
    ended, all_of = sum(attempt.images is not None for attempt in attempts), len(attempts)
    starts = words.count(ended, "attempt") if ended == all_of else f"{ended} of {all_of} attempts"
    speed = f"images/s over {text.duration(wall)} in {starts}" if images else "rate not known"
    at = f'at or over <span data-text="threshold">{found.threshold / 100:.2f}</span>'
    return f"""<div class="tiles">
{_tile("images", words.count(found.images), f"images, {text.size(found.image_bytes)}")}
{_tile("shown", words.count(shown), f"boxes {at}, {words.count(found.detections)} in all")}
{_tile("with", text.percent(found.ok - empty, found.ok), f"of images have a box {at}")}
{_tile("empty", words.count(empty), "images have no such box")}
{
        _tile(
            "failed",
            words.count(failed),
            f"images failed, {text.percent(failed, found.images)}",
            "bad" if failed else "",
        )
    }
{_tile("rate", text.rate(images, wall) if images else "–", speed)}
</div>"""


def _tile(name: str, number: str, words: str, kind: str = "") -> str:
    return f'<p class="tile {kind}"><b data-text="{name}">{number}</b> {words}</p>'


def facts(output: Output, attempts: Sequence[throughput.Stretch], found: Statistics) -> str:
    """What ran on what, when and where."""
    weights, last = output.record["weights"], attempts[-1]
    trained = "trained" if weights["trained"] else '<strong class="bad">UNTRAINED</strong>'
    digest = text.escaped(weights["sha256"])
    versions = [
        f"{n} {last.versions[n]}" for n in ("torch", "torchvision", "python") if n in last.versions
    ]
    options = output.detector["options"]
    kept = f"over {output.detector['score_threshold']:g}"
    if "box_detections_per_img" in options:
        place = "per tile" if output.record["identity"].get("tile") else "per image"
        kept += f", at most {words.count(options['box_detections_per_img'])} {place}"
    if found.agnostic_nms is not None:
        shown = words.count(found.doubles)
        kept += f"; {shown} doubles (IoU above {found.agnostic_nms:g}) left out here"
    lines = [
        ("Model", text.escaped(weights["model_id"])),
        ("Weights", f'{trained}, sha256 <code title="{digest}">{digest[:12]}</code>'),
        ("Input", text.escaped(output.input)),
        ("Output", text.escaped(output.url)),
        ("When", text.span(attempts[0].started, last.ended)),
        ("Where", text.escaped(f"{last.host}, {_placement(last.placement)}")),
        ("Detections kept", kept),
        ("Versions", text.escaped(", ".join(versions))),
    ]
    pairs = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in lines)
    return f'<dl class="facts">{pairs}</dl>'


def _placement(placement: Mapping[str, Any]) -> str:
    if not placement:
        return "placement not known"
    return f"{words.count(placement['replicas'], 'replica')} on {placement['device']}"


def failures(found: Statistics) -> str:
    """A line for each way in which images failed, with examples."""
    if not found.failures:
        return "<p>No image failed.</p>"
    lines = []
    for (stage, code), some in sorted(found.failures.items(), key=lambda f: -f[1].images):
        examples = "".join(
            f'<li><span class="uri" title="{text.escaped(uri)}">{text.escaped(uri, 120)}</span> '
            f"{text.escaped(sample.message, 240)}</li>"
            for sample in some.some.samples[:NAMED_FAILURES]
            for uri in [urls.public(sample.image.uri)]
        )
        lines.append(
            f"<tr><th scope='row'><code>{text.escaped(code, 60)}</code></th>"
            f"<td>{text.escaped(stage, 60)}</td><td class='n'>{words.count(some.images)}</td>"
            f"<td class='n'>{text.percent(some.images, found.images)}</td>"
            f"<td class='wide'><ul>{examples}</ul></td></tr>"
        )
    return table(["Code", "Stage", "Images", "Share", "Examples"], lines)


def categories(found: Statistics, order: np.ndarray, swatches: Sequence[str]) -> str:
    """Detections per category, most first.

    Args:
        found: the counts.
        order: [categories] places by number of detections.
        swatches: [categories] CSS classes of their colours.
    """
    totals, shown = found.scores.sum(1), found.scores[:, found.threshold :].sum(1)
    most = int(totals.max(initial=0))
    lines = [
        f'<tr data-category="{place}"><th scope="row"><i class="swatch {swatches[place]}"></i>'
        f"{text.escaped(found.names[place], 60)}</th><td class='bar'>"
        f"{charts.share(int(shown[place]), int(totals[place]), most)}</td>"
        f"<td class='n'>{words.count(shown[place])}</td>"
        f"<td class='n'>{words.count(totals[place])}</td></tr>"
        for place in order.tolist()
        if totals[place]
    ]
    at = f'≥ <span data-text="threshold">{found.threshold / 100:.2f}</span>'
    head = ["Category", "", at, "In all"]
    parts = [folded(head, lines, "category", "categories")]
    never = [
        name
        for name, total in zip(found.names, totals, strict=True)
        if not total and name not in found.unnamed
    ]
    if never:
        names = ", ".join(text.escaped(name, 60) for name in never)
        several = "1 category" if len(never) == 1 else f"{len(never):,} categories"
        parts.append(f"<details><summary>{several} never found</summary><p>{names}</p></details>")
    return "".join(parts)


def attempts_table(attempts: Sequence[throughput.Stretch]) -> str:
    lines = []
    for number, attempt in enumerate(attempts, 1):
        wall = attempt.seconds.get("wall", 0.0)
        stages = ", ".join(
            f"{text.escaped(stage)} {text.duration(seconds)}"
            for stage, seconds in attempt.seconds.items()
            if stage != "wall"
        )
        known = attempt.images is not None
        cells = [
            text.moment(attempt.started),
            text.moment(attempt.ended) if attempt.ended else "killed",
            words.count(attempt.images or 0) if known else "–",
            text.duration(wall) if known else "–",
            text.rate(attempt.images or 0, wall) if known else "–",
            stages or "–",
            text.escaped(f"{attempt.host}, {_placement(attempt.placement)}", 120),
        ]
        lines.append(
            f"<tr><th scope='row'>{number}</th>"
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    head = ["", "Started", "Ended", "Images", "Time", "Images/s", "Work, all processes", "Where"]
    return table(head, lines)


def making(output: Output, attempts: Sequence[throughput.Stretch]) -> str:
    """Everything needed to do it again, folded."""
    blocks = [
        ("Configuration of the last attempt", output.record["config"]),
        ("Network", {k: v for k, v in output.detector.items() if k != "categories"}),
        ("Versions of each attempt", [dict(attempt.versions) for attempt in attempts]),
    ]
    return "".join(
        f"<details><summary>{title}</summary><pre>"
        + "\n".join(text.escaped(line) for line in _json(value).splitlines())
        + "</pre></details>"
        for title, value in blocks
    )


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def line(cells: Sequence[str]) -> str:
    """A line of a table: what it is about, then numbers or words."""
    first, *others = cells
    return f"<tr><th scope='row'>{first}</th>" + "".join(map(_cell, others)) + "</tr>"


def _cell(value: str) -> str:
    number = value[-1:].isdigit() or value.endswith(("%", "-"))
    return f"<td class='n'>{value}</td>" if number else f"<td>{value}</td>"


def folded(head: Sequence[str], lines: Sequence[str], one: str, several: str) -> str:
    """A table of which the first lines are seen at once.

    Args:
        head: of the columns.
        lines: HTML.
        one, several: what a line is.
    """
    first, more = lines[:LINES_AT_ONCE], lines[LINES_AT_ONCE:]
    if not more:
        return table(head, first)
    shown = f"1 more {one}" if len(more) == 1 else f"{len(more):,} more {several}"
    return f"{table(head, first)}<details><summary>{shown}</summary>{table(head, more)}</details>"


def table(head: Sequence[str], lines: Sequence[str]) -> str:
    """Lines of HTML under a head."""
    cells = "".join(
        f"<th scope='col'{' class=wide' if name == 'Examples' else ''}>{name}</th>" for name in head
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
