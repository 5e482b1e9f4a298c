"""What a comparison found, in words for a person and in JSON for a program."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from pipeline import words
from pipeline.labels import strays
from pipeline.labels.diff.comparison import Comparison
from pipeline.labels.diff.judged import VERDICTS, Judge
from pipeline.labels.diff.pairing import KINDS, SAME, SAME_IOU
from pipeline.labels.diff.tally import MOST_LISTED, NAMED, Tally
from pipeline.labels.evaluate import METRICS
from pipeline.labels.output import Output
from pipeline.store import urls

TITLES = dict(zip(KINDS, (*KINDS[:-2], "only A", "only B"), strict=True))
VERDICT_TITLES = dict(zip(VERDICTS, ("A alone", "B alone", "both", "neither"), strict=True))
SHOWN_METRICS = ("AP", "AP50", "AP75", "AR100")
WIDEST = 40
MOST_CONFUSIONS = 20


def meanings(threshold: float) -> dict[str, str]:
    """What each kind of change is."""
    return {
        "same": f"IoU of {SAME_IOU:g} or more, same label",
        "moved": f"IoU below {SAME_IOU:g}, same label",
        "relabelled": "another label in B",
        "fell": f"below {threshold:g} in B",
        "rose": f"below {threshold:g} in A",
        "only_a": "B has no such box",
        "only_b": "A has no such box",
    }


def text(found: Comparison) -> str:
    """The result for a person."""
    tally = found.tally
    sides = (found.joint.a, found.joint.b)
    lines = [f"{name}  {o.url}  {_model(o)}" for name, o in zip("AB", sides, strict=True)]
    compared = f"{words.count(tally.images, 'image')} compared, by {found.joint.by}"
    lines += ["", f"{compared}; {tally.changed:,} changed", *remarks(found), ""]
    at = f"boxes with a score of {found.options.score_threshold:g} or more"
    lines.append(f"{at}: {tally.boxes[:, 0].sum():,} in A, {tally.boxes[:, 1].sum():,} in B")
    for kind, meaning in meanings(found.options.score_threshold).items():
        lines.append(f"  {TITLES[kind]:10} {tally.totals[kind]:>11,}  {meaning}")
    lines += ["", *_table(["category", "A", "B", *TITLES.values()], categories(tally))]
    if tally.confusions:
        most = confusions(tally)[:MOST_CONFUSIONS]
        lines += ["", *_table(["relabelled", "boxes"], [(f"{a} -> {b}", n) for a, b, n in most])]
    if found.judge:
        lines += ["", *_judged(found.judge)]
    return "\n".join(lines)


def remarks(found: Comparison) -> list[str]:
    """What was not compared, a line each."""
    tally, joint = found.tally, found.joint
    lines = []
    for name, lacking, examples in zip("AB", joint.lacking, joint.examples, strict=True):
        if lacking:
            lines.append(f"{words.count(lacking, 'image')} only in {name}: {_named(examples)}")
    for name, failed, examples in zip("AB", tally.failed, tally.failed_examples, strict=False):
        if failed:
            shown = words.count(failed, "image")
            lines.append(f"{shown} failed in {name} only, not compared: {_named(examples)}")
    if tally.failed[2]:
        lines.append(f"{words.count(tally.failed[2], 'image')} failed in both, not compared")
    if tally.resized:
        shown = words.count(tally.resized, "image")
        lines.append(
            f"{shown} of another size in B, not compared: {_named(tally.resized_examples)}"
        )
    if tally.replaced:
        shown = words.count(tally.replaced, "image")
        lines.append(
            f"{shown} with another file in B, not compared: {_named(tally.replaced_examples)}"
        )
    if tally.listed and tally.changed > MOST_LISTED:
        lines.append(f"the list ends with the {MOST_LISTED:,} most changed")
    for name, output in (("A", joint.a), ("B", joint.b)):
        if not output.detector["trained"]:
            lines.append(f"the weights of {name} are UNTRAINED: its boxes mean nothing")
    if found.judge:
        lines += strays.notes(found.judge.truth, found.judge.foreign)
    return lines


def categories(tally: Tally) -> list[tuple[str, ...]]:
    """Name, boxes of A and of B, boxes of each kind; most changed first."""
    changed = tally.kinds.sum(1) - tally.kinds[:, SAME]
    order = np.lexsort((-tally.boxes.sum(1), -changed))
    return [
        (tally.names[place], *(f"{n:,}" for n in (*tally.boxes[place], *tally.kinds[place])))
        for place in order.tolist()
        if tally.boxes[place].any()
    ]


def confusions(tally: Tally) -> list[tuple[str, str, str]]:
    """Label in A, label in B, number of boxes; most first."""
    return [
        (tally.names[a], tally.names[b], f"{count:,}")
        for (a, b), count in tally.confusions.most_common()
    ]


def verdicts(judge: Judge) -> list[tuple[str, ...]]:
    """Kind of change and the number of boxes by which side is right, those that are there."""
    return [
        (TITLES[kind], *(f"{n:,}" for n in counts))
        for kind, counts in zip(KINDS, judge.verdicts.tolist(), strict=True)
        if any(counts)
    ]


def metrics(judge: Judge) -> list[tuple[str, ...]]:
    """Name of a metric, and its value for A and for B."""
    first, second = (evaluation.metrics for evaluation in judge.evaluations)
    return [(name, _number(first[name]), _number(second[name])) for name in SHOWN_METRICS]


def record(found: Comparison) -> dict[str, Any]:
    """The result for a program."""
    tally, joint, options = found.tally, found.joint, found.options
    content = {
        "a": _side(joint.a),
        "b": _side(joint.b),
        "score_threshold": options.score_threshold,
        "iou": options.iou,
        "same_iou": SAME_IOU,
        "agnostic_nms": options.agnostic_nms,
        "paired_by": joint.by,
        "images": {
            "compared": tally.images,
            "changed": tally.changed,
            "only_a": joint.lacking[0],
            "only_b": joint.lacking[1],
            "failed_a": tally.failed[0],
            "failed_b": tally.failed[1],
            "failed_both": tally.failed[2],
            "resized": tally.resized,
            "replaced": tally.replaced,
        },
        "examples": {
            "only_a": joint.examples[0],
            "only_b": joint.examples[1],
            "failed": [*chain(*tally.failed_examples)],
            "resized": tally.resized_examples,
            "replaced": tally.replaced_examples,
        },
        "boxes": {"a": int(tally.boxes[:, 0].sum()), "b": int(tally.boxes[:, 1].sum())}
        | tally.totals,
        "categories": [
            {"name": name, "a": int(a), "b": int(b), **dict(zip(KINDS, kinds, strict=True))}
            for name, (a, b), kinds in zip(
                tally.names, tally.boxes, tally.kinds.tolist(), strict=True
            )
            if a or b
        ],
        "confusions": [
            {"a": tally.names[a], "b": tally.names[b], "boxes": count}
            for (a, b), count in tally.confusions.most_common()
        ],
    }
    return content if found.judge is None else content | {"annotations": _judgement(found.judge)}


def _side(output: Output) -> dict[str, Any]:
    weights = output.record["weights"]
    return {
        "output": output.url,
        "run_id": output.record["run_id"],
        "weights": {name: weights[name] for name in ("model_id", "sha256", "trained")},
        "score_threshold": output.detector["score_threshold"],
    }


def _judgement(judge: Judge) -> dict[str, Any]:
    first, second = (evaluation.metrics for evaluation in judge.evaluations)
    return {
        "url": urls.public(judge.truth.url),
        "images": judge.evaluations[0].images,
        "left_out": judge.truth.left_out,
        "not_classes": judge.foreign,
        "metrics": {name: {"a": first[name], "b": second[name]} for name in METRICS},
        "right": {
            kind: dict(zip(VERDICTS, counts, strict=True))
            for kind, counts in zip(KINDS, judge.verdicts.tolist(), strict=True)
        },
    }


def _model(output: Output) -> str:
    weights = output.record["weights"]
    return words.printable(f"{weights['model_id']}, sha256 {weights['sha256'][:12]}", 200)


def _judged(judge: Judge) -> list[str]:
    one, other = judge.evaluations
    lines = [f"{words.count(one.images, 'annotated image')} ({one.backend})"]
    lines += _table(["", "A", "B"], metrics(judge))
    if found := verdicts(judge):
        lines += ["", *_table(["right is", *VERDICT_TITLES.values()], found)]
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    shown = [head, *((words.printable(row[0], WIDEST), *row[1:]) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in shown
    ]


def _named(uris: Sequence[str]) -> str:
    return ", ".join(words.printable(uri, 100) for uri in uris[:NAMED])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
