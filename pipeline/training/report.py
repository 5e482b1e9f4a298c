"""The page about a training: its curves, its figures, what went in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.labels.report import charts, frame, text
from pipeline.training import schedule

LOSSES = {
    "loss_classifier": "classes",
    "loss_box_reg": "boxes",
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposals",
}
SHOWN = ("AP", "AP50", "AP75")


def html(record: Mapping[str, Any], url: str) -> str:
    """
    Args:
        record: the content of `train.json`, with one epoch at least.
        url: of the folder.
    """
    epochs = record["epochs"]
    top = schedule.best(epochs)
    tiles = [
        (f"{len(epochs):,}", "epochs"),
        (f"{record['images']:,}", "images trained on"),
        (f"{record['boxes']:,}", "boxes in them"),
        (f"{record['held_out']:,}", "images held out"),
    ]
    curves = charts.curve("loss", "Mean loss of each epoch", [e["loss"] for e in epochs])
    if epochs[-1]["metrics"]:
        values = [e["metrics"]["AP"] for e in epochs]
        tiles.insert(0, (f"{values[top - 1]:.3f}", f"AP in epoch {top}, the checkpoint's"))
        curves += charts.curve("ap", "AP on the images held out", values)
    notes = "".join(f"<li>{text.escaped(line)}</li>" for line in record["notes"])
    body = f"""<header><p class="kicker">Training</p><h1>{text.escaped(url, 160)}</h1></header>
<div class="tiles">{"".join(f'<div class="tile"><b>{a}</b>{b}</div>' for a, b in tiles)}</div>
<div class="charts">{curves}</div>
<section><h2>Epochs</h2><div class="panel scroll">{_epochs(epochs, top)}</div>
<p>AP is COCO's, on the images that are held out. The checkpoint is of the epoch with the highest
AP, so its AP is slightly higher here than on images that had no part in that choice.</p></section>
<section><h2>Classes</h2><div class="panel scroll">{_classes(record, top)}</div></section>
<section><h2>What to know</h2><ul>{notes or "<li>Nothing was left out.</li>"}</ul></section>
<section><h2>How it was made</h2>{_making(record)}</section>"""
    return frame.document("training", url.rsplit("/", 1)[-1], body, "")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{text.escaped(name)}</th>" for name in heads)
    lines = ["".join(f'<td class="n">{cell}</td>' for cell in row[1:]) for row in rows]
    body = "".join(
        f"<tr><th>{row[0]}</th>{line}</tr>" for row, line in zip(rows, lines, strict=True)
    )
    return f'<table class="numbers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _epochs(epochs: Sequence[Mapping[str, Any]], top: int) -> str:
    rows = []
    for figures in epochs:
        mark = " (checkpoint)" if figures["epoch"] == top else ""
        metrics = figures["metrics"] or {}
        rows.append(
            [
                f"{figures['epoch']}{mark}",
                _number(figures["loss"]),
                *(_number(figures["losses"].get(name)) for name in LOSSES),
                *(_number(metrics.get(name)) for name in SHOWN),
                text.duration(figures["seconds"] + figures["seconds_measuring"]),
            ]
        )
    return _table(["epoch", "loss", *LOSSES.values(), *SHOWN, "time"], rows)


def _classes(record: Mapping[str, Any], top: int) -> str:
    values = record["epochs"][top - 1]["categories"] or {}
    rows = [
        [text.escaped(name, 60), label, _number(values.get(name))]
        for label, name in record["categories"].items()
    ]
    return _table(["class", "id", "AP"], rows)


def _making(record: Mapping[str, Any]) -> str:
    facts = {
        **{name: value for name, value in record["identity"].items() if name != "classes"},
        "batch norms": record["batch_norm"],
        **record["versions"],
    }
    pairs = "".join(
        f"<div><dt>{text.escaped(name)}</dt><dd>{text.escaped(value)}</dd></div>"
        for name, value in facts.items()
    )
    return f'<dl class="facts">{pairs}</dl>'
