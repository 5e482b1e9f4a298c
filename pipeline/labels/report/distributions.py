"""The parts of a report that are charts."""

from __future__ import annotations

import math

import numpy as np

from pipeline.labels.report import charts, text, throughput
from pipeline.labels.report.statistics import (
    LARGE,
    PER_IMAGE,
    SIDES_OF_BOXES,
    SIDES_OF_IMAGES,
    SMALL,
    Statistics,
)
from pipeline.words import count

SCORE_BAR = 5  # hundredths


def histograms(found: Statistics) -> str:
    """The four histograms."""
    return f"""<div class="charts">
{_scores(found)}
{_per_image(found)}
{_sizes_of_boxes(found)}
{_sizes_of_images(found)}
</div>"""


def _scores(found: Statistics) -> str:
    counts = found.scores.sum(0)
    last = len(counts) - 1  # the score 1 itself belongs to the last bar
    values = [int(counts[k : k + SCORE_BAR].sum()) for k in range(0, last, SCORE_BAR)]
    values[-1] += int(counts[last])
    bins = [f"{k / 100:.2f} to {(k + SCORE_BAR) / 100:.2f}" for k in range(0, last, SCORE_BAR)]
    ticks = [
        (k * len(values) / 4, word) for k, word in enumerate(("0", "0.25", "0.5", "0.75", "1"))
    ]
    drawing = charts.histogram(
        "scores", f"Boxes by {found.measure}", values, bins, ticks, limit=found.threshold / 100
    )
    note = "All boxes that the run kept; those below the threshold are pale."
    title = "Probabilities of being right" if found.measure == "probability" else "Scores"
    return _chart(title, drawing, note)


def _per_image(found: Statistics) -> str:
    values = found.per_image[found.threshold].tolist()
    bins = _ranges(PER_IMAGE)
    ticks = [(place + 0.5, word.partition("–")[0]) for place, word in enumerate(bins)]
    drawing = charts.histogram(
        "per-image", "Images by number of boxes", values, [f"{word} boxes" for word in bins], ticks
    )
    note = "Images by their number of boxes in view; a bar reaches to the next one’s number."
    return _chart("Boxes per image", drawing, note)


def _sizes_of_boxes(found: Statistics) -> str:
    values = found.sizes[found.threshold :].sum(0)
    bins = [f"{word} pixels" for word in _ranges(SIDES_OF_BOXES, "to")]
    ticks = [(place, str(side)) for place, side in enumerate(SIDES_OF_BOXES) if place % 2]
    drawing = charts.histogram("sizes", "Boxes by size", values.tolist(), bins, ticks)
    small = values[SIDES_OF_BOXES < SMALL].sum()
    large = values[SIDES_OF_BOXES >= LARGE].sum()
    total = values.sum()
    note = "Square root of the area, pixels of the image: " + ", ".join(
        f'{name} <b data-text="{name}">{text.percent(part, total)}</b>'
        for name, part in (("small", small), ("medium", total - small - large), ("large", large))
    )
    return _chart("Box sizes", drawing, f"{note} (COCO’s limits: {SMALL}² and {LARGE}² pixels).")


def _sizes_of_images(found: Statistics) -> str:
    bins = [f"{word} pixels" for word in _ranges(SIDES_OF_IMAGES, "to")]
    ticks = [(place, str(side)) for place, side in enumerate(SIDES_OF_IMAGES)]
    drawing = charts.histogram("sides", "Images by size", found.sides.tolist(), bins, ticks)
    mean = text.size(found.image_bytes / found.images) if found.images else "–"
    return _chart("Image sizes", drawing, f"Long side in pixels. A file has {mean} on average.")


def _ranges(edges: np.ndarray, word: str = "") -> list[str]:
    """`0`, `3–4`, `129+`; with a word, `8 to 12`, for what is measured and not counted."""
    spans = []
    for low, high in zip(edges.tolist(), edges.tolist()[1:], strict=False):
        if word:
            spans.append(f"{low:,} {word} {high:,}")
        else:
            spans.append(f"{low}" if high == low + 1 else f"{low}–{high - 1}")
    return [*spans, f"{edges[-1]:,} and more" if word else f"{edges[-1]}+"]


def _chart(title: str, drawing: str, note: str) -> str:
    return (
        f'<figure class="panel"><h3>{title}</h3>{drawing}<figcaption>{note}</figcaption></figure>'
    )


def speed(series: throughput.Series | None, dated: bool) -> str:
    """Images per second over the time at work.

    Args:
        series: None where no file was written during an attempt.
        dated: whether the store tells when files were written.
    """
    if not dated:
        return "<p>The store does not tell when files were written, so there is no chart.</p>"
    if series is None:
        return (
            "<p>No file of detections was written while the run was at work: this output is "
            "a copy, whose files say nothing about throughput over time.</p>"
        )
    rates = series.images / series.interval
    n = len(rates)
    bins = [f"after {text.duration(i * series.interval)}" for i in range(n)]
    total = math.ceil(n * series.interval)
    every = next((step for step in throughput.INTERVALS if total / step <= 5), total)
    ticks = [(k / series.interval, text.duration(k)) for k in range(0, total, every)]
    shown = [f"{text.rate(value, 1)} images/s" for value in rates]
    drawing = charts.histogram(
        "speed", "Images per second over time", rates.tolist(), bins, ticks, shown
    )
    note = (
        "Images/s over the time at work, without pauses between attempts; computed from the "
        f"times at which {count(series.files, 'file')} of detections were written."
    )
    if series.others:
        note += f" {count(series.others, 'file')} from other times left out."
    return f'<figure class="panel">{drawing}<figcaption>{note}</figcaption></figure>'
