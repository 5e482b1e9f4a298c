"""A report as one HTML file that needs nothing else: no server, no network, no script."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import numpy as np

from pipeline.errors import UsageError
from pipeline.labels.calibration import Calibration
from pipeline.labels.output import Output
from pipeline.labels.report import (
    distributions,
    drawing,
    frame,
    gallery,
    sections,
    statistics,
    text,
    throughput,
)
from pipeline.labels.report.gallery import Gallery
from pipeline.labels.report.statistics import Statistics

SCORE_THRESHOLD = 0.5
PICTURES = 12


def build(
    output: Output,
    score_threshold: float = SCORE_THRESHOLD,
    pictures: int = PICTURES,
    calibration: Calibration | None = None,
    agnostic_nms: float | None = None,
) -> frame.Page:
    """
    Args:
        output: a finished run's.
        score_threshold: boxes at or over it are shown at first; of two decimals.
        pictures: wanted in each gallery; the file ends them at `frame.MOST_BYTES`.
        calibration: by which probabilities of being right stand in place of scores, if any.
        agnostic_nms: see `Classes`.

    Raises:
        UsageError: a threshold or number of pictures that cannot be.
        RunError: a file of the output cannot be read, or rows are missing.
    """
    threshold = _hundredths(score_threshold)
    gallery.checked(pictures)
    found = statistics.gather(output, threshold, pictures, calibration, agnostic_nms)
    order = np.argsort(-found.scores.sum(1), kind="stable")
    style = drawing.Style(found.names, np.argsort(order), threshold)
    chosen = gallery.choose(found)
    of = output.url.rstrip("/").rsplit("/", 1)[-1]
    body = _body(output, found, chosen, style, order)
    empty = frame.document("detection report", of, body, "report.js", _data(found))
    return frame.filled(empty, output, chosen, partial(drawing.card, style=style))


def _hundredths(score_threshold: float) -> int:
    in_range = 0 <= score_threshold <= 1
    threshold = round(score_threshold * 100) if in_range else -1
    if threshold / 100 != score_threshold:
        raise UsageError(
            "--score-threshold must be within 0 and 1 and have at most two decimals, "
            f"not {score_threshold:g}"
        )
    return threshold


def _body(
    output: Output,
    found: Statistics,
    galleries: Sequence[Gallery],
    style: drawing.Style,
    order: np.ndarray,
) -> str:
    attempts = throughput.attempts(output.record)
    times = throughput.written(output)
    series = throughput.series(attempts, found.file_rows, times)
    swatches = [style.colour(place) for place in range(len(found.names))]
    untrained = (
        ""
        if output.record["weights"]["trained"]
        else (
            '<p class="alarm"><strong>UNTRAINED NETWORK.</strong> Its weights are random numbers: '
            "every box and label below means nothing.</p>"
        )
    )
    links = [
        ("failures", "Failures"),
        ("boxes", "Boxes"),
        *((one.name, one.title) for one in galleries),
        ("throughput", "Throughput"),
        ("making", "How it was made"),
    ]
    nav = "".join(f'<a href="#{name}">{title}</a>' for name, title in links)
    return f"""<header><p class="kicker">Detection report</p>
<h1>{text.escaped(output.url, 160)}</h1></header>
{untrained}{sections.tiles(found, attempts)}
{sections.facts(output, attempts, found)}
<nav aria-label="Sections">{nav}</nav>
<section id="failures"><h2>Failures</h2>{sections.failures(found)}</section>
{_controls(found, order)}
<section id="boxes"><h2>Boxes</h2>
<div class="panel">{sections.categories(found, order, swatches)}</div>
{distributions.histograms(found)}</section>
{frame.PLACE}
<section id="throughput"><h2>Throughput</h2>
{distributions.speed(series, dated=bool(times))}{sections.attempts_table(attempts)}</section>
<section id="making"><h2>How it was made</h2>{sections.making(output, attempts)}</section>"""


def _controls(found: Statistics, order: np.ndarray) -> str:
    """What `report.js` listens to; not seen without it."""
    totals = found.scores.sum(1)
    options = "".join(
        f'<option value="{place}">{text.escaped(found.names[place], 60)}</option>'
        for place in order.tolist()
        if totals[place]
    )
    at = found.threshold
    return f"""<form class="controls" aria-label="What is shown">
<label>{found.measure.capitalize()} at least <output data-text="threshold">{at / 100:.2f}</output>
<input id="threshold" type="range" min="0" max="100" value="{at}" autocomplete="off"></label>
<label>Category <select id="category" autocomplete="off"><option value="-1">all</option>{options}
</select></label></form>"""


def _data(found: Statistics) -> str:
    """The counts that `report.js` needs. Numbers alone, so nothing in it can end the element."""
    totals = found.scores.sum(1)
    rows: Sequence[int] = np.flatnonzero(totals).tolist()
    return json.dumps(
        {
            "threshold": found.threshold,
            "ok": found.ok,
            "scores": {str(place): found.scores[place].tolist() for place in rows},
            "sizes": found.sizes.tolist(),
            "perImage": found.per_image.tolist(),
            "small": int(np.sum(statistics.SIDES_OF_BOXES < statistics.SMALL)),
            "large": int(np.sum(statistics.SIDES_OF_BOXES < statistics.LARGE)),
        },
        separators=(",", ":"),
    )
