"""A comparison as one HTML file: the counts, and the most changed images with both sides' boxes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from pipeline import words
from pipeline.labels.diff import summary
from pipeline.labels.diff.comparison import Comparison
from pipeline.labels.diff.pairing import KINDS, SAME
from pipeline.labels.diff.tally import Compared
from pipeline.labels.report import drawing, frame, sections, text
from pipeline.labels.report.drawing import MOST_BOXES, Mark
from pipeline.labels.report.gallery import Gallery, Picture
from pipeline.labels.report.statistics import hundredths

NAME = 14  # characters of a category on a box


def build(found: Comparison) -> frame.Page:
    """
    Args:
        found: with the samples that are shown; their images are read from where A has them.
    """
    of = " and ".join(o.url.rstrip("/").rsplit("/", 1)[-1] for o in (found.joint.a, found.joint.b))
    galleries = [
        Gallery(
            "changed",
            "Most changed",
            "Sorted by how much their boxes changed in all, the most first.",
            found.tally.best.samples,
        )
    ]
    empty = frame.document("comparison", of, _body(found), "")
    galleries = galleries if found.tally.best.samples else []
    card = partial(_card, names=found.tally.names)
    return frame.filled(empty, found.joint.a, galleries, card)


def _body(found: Comparison) -> str:
    tally, joint = found.tally, found.joint
    remarks = "".join(f"<li>{text.escaped(line)}</li>" for line in summary.remarks(found))
    nav = "".join(
        f'<a href="#{name}">{title}</a>'
        for name, title, there in (
            ("counts", "Boxes", True),
            ("right", "Which side is right", found.judge),
            ("changed", "Most changed", tally.best.samples),
        )
        if there
    )
    return f"""<header><p class="kicker">Two outputs compared</p>
<h1>{text.escaped(joint.a.url, 120)} and {text.escaped(joint.b.url, 120)}</h1></header>
{_tiles(found)}
<dl class="facts">{_facts(found)}</dl>
{f'<ul class="remarks">{remarks}</ul>' if remarks else ""}
<nav aria-label="Sections">{nav}</nav>
<section id="counts"><h2>Boxes</h2>
<div class="panel numbers">{_kinds(found)}</div>
<div class="panel numbers">{_categories(found)}</div>
{_confusions(found)}</section>
{_right(found)}
{_legend() if tally.best.samples else "<p>No image has changed.</p>"}
{frame.PLACE}"""


def _tiles(found: Comparison) -> str:
    tally = found.tally
    same = tally.totals["same"]
    whole = sum(tally.totals.values())
    numbers = [
        (words.count(tally.images), f"images compared, by {found.joint.by}"),
        (words.count(tally.changed), f"changed, {text.percent(tally.changed, tally.images)}"),
        (words.count(int(tally.boxes[:, 0].sum())), "boxes in A"),
        (words.count(int(tally.boxes[:, 1].sum())), "boxes in B"),
        (text.percent(same, whole), "of all boxes are the same"),
    ]
    tiles = "".join(f'<p class="tile"><b>{number}</b> {words_}</p>' for number, words_ in numbers)
    return f'<div class="tiles">{tiles}</div>'


def _facts(found: Comparison) -> str:
    options = found.options
    lines = []
    for name, output in (("A", found.joint.a), ("B", found.joint.b)):
        weights = output.record["weights"]
        shown = f"{output.url}: {weights['model_id']}, sha256 {weights['sha256'][:12]}"
        lines.append((name, shown))
    counted = f"with a score of {options.score_threshold:g} or more; paired from an IoU of "
    counted += f"{options.iou:g}"
    if options.agnostic_nms is not None:
        counted += f"; doubles (IoU above {options.agnostic_nms:g}) left out"
    lines.append(("Boxes", counted))
    return "".join(
        f"<div><dt>{name}</dt><dd>{text.escaped(value)}</dd></div>" for name, value in lines
    )


def _kinds(found: Comparison) -> str:
    totals = found.tally.totals
    whole = sum(totals.values())
    rows = [
        [
            f'<i class="swatch k-{kind}"></i>{summary.TITLES[kind]} '
            f'<span class="meaning">{meaning}</span>',
            f"{totals[kind]:,}",
            text.percent(totals[kind], whole),
        ]
        for kind, meaning in summary.meanings(found.options.score_threshold).items()
    ]
    return _table(["", "Boxes", "Share"], rows)


def _categories(found: Comparison) -> str:
    lines = [
        sections.line([text.escaped(name, 60), *counts])
        for name, *counts in summary.categories(found.tally)
    ]
    head = ["Category", "A", "B", *summary.TITLES.values()]
    return sections.folded(head, lines, "category", "categories")


def _confusions(found: Comparison) -> str:
    lines = [
        sections.line([f"{text.escaped(a, 60)} → {text.escaped(b, 60)}", count])
        for a, b, count in summary.confusions(found.tally)
    ]
    if not lines:
        return ""
    table = sections.folded(["Relabelled", "Boxes"], lines, "pair", "pairs")
    return f'<div class="panel numbers">{table}</div>'


def _right(found: Comparison) -> str:
    judge = found.judge
    if judge is None:
        return ""
    images = words.count(judge.evaluations[0].images, "annotated image")
    head = ["Right is", *summary.VERDICT_TITLES.values()]
    return f"""<section id="right"><h2>Which side is right</h2>
<p>Over the {images} that both sides have. A box is right if a true box of its label has an IoU of
0.5 or more with it; where one side has no box, that side is right if the other’s is wrong.</p>
<div class="panel numbers">{_table(["", "A", "B"], summary.metrics(judge))}</div>
<div class="panel numbers">{_table(head, summary.verdicts(judge))}</div></section>"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return sections.table(head, [sections.line(row) for row in rows])


def _legend() -> str:
    swatches = "".join(
        f'<span><i class="swatch k-{kind}"></i>{title}</span>'
        for kind, title in summary.TITLES.items()
    )
    return (
        f'<p class="legend"><span>Lines: solid in A, dashed in B.</span>{swatches}'
        "<span>Where both differ, A → B.</span></p>"
    )


def _card(picture: Picture, names: list[str]) -> str:
    sample = picture.sample
    assert isinstance(sample, Compared)
    counts = np.bincount(sample.kinds, minlength=len(KINDS)).tolist()
    found = ", ".join(
        f"{count:,} {summary.TITLES[kind]}"
        for kind, count in zip(KINDS, counts, strict=True)
        if count
    )
    order = np.argsort(sample.kinds == SAME, kind="stable")
    remarks = []
    if len(order) > MOST_BOXES:
        remarks.append(f"<span>{MOST_BOXES} of {len(order):,} drawn</span>")
    marks = [mark for row in order[:MOST_BOXES].tolist() for mark in _marks(sample, row, names)]
    return drawing.framed(picture, found, marks, remarks)


def _marks(sample: Compared, row: int, names: list[str]) -> list[Mark]:
    """A box of each side that has one; the words stand at the last."""
    kind = int(sample.kinds[row])
    labels, bins = sample.labels[row].tolist(), hundredths(sample.scores[row]).tolist()
    sides = [side for side in (0, 1) if labels[side] >= 0]
    called = [words.printable(names[labels[side]], NAME) for side in sides]
    rated = [f"{bins[side] / 100:.2f}" for side in sides]
    shown = f"{' → '.join(dict.fromkeys(called))} {' → '.join(dict.fromkeys(rated))}"
    marks = []
    for side in sides:
        left, top, right, bottom = sample.xyxy[row, side].astype(float).tolist()
        marks.append(
            Mark(
                (left, top, right, bottom),
                shown,
                f"k-{KINDS[kind]}{' dashed' if side else ''}",
                labelled=kind != SAME and side == sides[-1],
            )
        )
    return marks
