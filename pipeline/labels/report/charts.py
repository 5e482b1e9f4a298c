"""Charts as inline SVG. `report.js` draws their bars again when the threshold moves.

Lengths are not rounded here, as they are not there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.labels.report import text

# units of the drawing; on a telephone one is about 0.8 pixels
WIDTH, HEIGHT, TOP, BOTTOM = 400.0, 190.0, 20.0, 162.0
ROOMY = 22.0  # width of a bar above which its value has room


def histogram(
    name: str,
    label: str,
    values: Sequence[float],
    bins: Sequence[str],
    ticks: Sequence[tuple[float, str]],
    words: Sequence[str] | None = None,
    limit: float | None = None,
) -> str:
    """A bar for each value, the value above it where there is room, else that of the highest.

    Args:
        name: id of the drawing.
        label: what it shows, for those who cannot see it.
        values: [n], at least 0.
        bins: [n] what each stands for, shown where a bar is pointed at.
        ticks: place on the x-axis (0 is the left edge of the first bar, n the right one of the
            last) and the words there.
        words: [n] for the values; default, the values as whole numbers.
        limit: where a line stands, 0 to 1 of the width.
    """
    words = words or [f"{value:,.0f}" for value in values]
    highest = max(values, default=0) or 1
    step = WIDTH / len(values)
    bars = [
        _bar(
            i * step,
            step,
            (BOTTOM - TOP) * value / highest,
            f"{bins[i]}: {words[i]}",
            text.compact(value) if value and step >= ROOMY else "",
        )
        for i, value in enumerate(values)
    ]
    ticks_drawn = [_tick(place * step, word) for place, word in ticks]
    line = "" if limit is None else _limit(limit * WIDTH)
    peak = _peak(words[int(np.argmax(values))]) if step < ROOMY else ""
    return (
        f'<svg class="chart" id="{name}" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" '
        f'aria-label="{text.escaped(label)}">{"".join(bars)}<path class="axis" '
        f'd="M0 {BOTTOM:g}H{WIDTH:g}"/>{"".join(ticks_drawn)}{peak}{line}</svg>'
    )


def curve(name: str, label: str, values: Sequence[float]) -> str:
    """A line through values that follow each other from 1, the highest and the last one in words.

    Args:
        name: id of the drawing.
        label: what it shows, which stands above it.
        values: [n], at least 0, n at least 1.
    """
    highest, step = max(values) or 1.0, WIDTH / max(1, len(values) - 1)
    points = [(i * step, BOTTOM - (BOTTOM - TOP) * v / highest) for i, v in enumerate(values)]
    line = "L".join(f"{x:.4g} {y:.4g}" for x, y in points)
    dots = "".join(
        f'<g class="bar"><title>{place}: {value:.4f}</title><circle cx="{x:.4g}" cy="{y:.4g}" '
        'r="2.5"/></g>'
        for place, ((x, y), value) in enumerate(zip(points, values, strict=True), start=1)
    )
    ticks = _tick(0, "1") + (_tick(WIDTH, str(len(values))) if len(values) > 1 else "")
    said = f"highest: {max(values):.4f}, last: {values[-1]:.4f}"
    return (
        f'<figure class="panel"><figcaption>{text.escaped(label)}</figcaption><svg class="chart" '
        f'id="{name}" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" '
        f'aria-label="{text.escaped(label)}"><path class="curve" d="M{line}"/>{dots}<path '
        f'class="axis" d="M0 {BOTTOM:g}H{WIDTH:g}"/>{ticks}<text class="peak" x="0" y="12">'
        f"{said}</text></svg></figure>"
    )


def _bar(x: float, step: float, height: float, title: str, above: str) -> str:
    gap = min(step * 0.15, 4)
    top = BOTTOM - height
    return (
        f'<g class="bar"><title>{text.escaped(title)}</title><rect x="{x + gap / 2}" '
        f'y="{top}" width="{step - gap}" height="{height}"/>'
        f'<text x="{x + step / 2}" y="{top - 4}">{above}</text></g>'
    )


def _peak(word: str) -> str:
    return f'<text class="peak" x="0" y="12">highest bar: {text.escaped(word)}</text>'


def _limit(x: float) -> str:
    return f'<path class="limit" d="M0 {TOP:g}V{BOTTOM:g}" transform="translate({x:g})"/>'


def _tick(x: float, word: str) -> str:
    anchor = "start" if x < 12 else "end" if x > WIDTH - 12 else "middle"
    return (
        f'<text class="tick" x="{x:.4g}" y="{BOTTOM + 18:g}" text-anchor="{anchor}">'
        f"{text.escaped(word)}</text>"
    )


def share(part: int, whole: int, most: int) -> str:
    """A bar in a line of a table, as long as its part of the longest, over a pale one."""
    rects = "".join(
        f'<rect class="{name}" width="{100 * value / most}%" height="100%"/>'
        for name, value in (("all", whole), ("now", part))
    )
    return f'<svg class="share" aria-hidden="true">{rects}</svg>'
