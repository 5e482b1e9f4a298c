"""Measure an output against ground truth: COCO's box metrics, overall and by category."""

from __future__ import annotations

import dataclasses
import io
import json
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import cli
from pipeline import words
from pipeline.labels import classes, strays
from pipeline.labels.annotations import load_truth
from pipeline.labels.evaluate import METRICS, Evaluation, evaluate
from pipeline.labels.match import NAMED_IMAGES, Matched, match
from pipeline.labels.output import Output, open_output
from pipeline.labels.redone import without_redone
from pipeline.labels.thresholds import IOU, Best, best_thresholds
from pipeline.labels.truth import Truth
from pipeline.locations import checked_url
from pipeline.store import failures, objects, urls

WIDEST = 40
AT_BEST = tuple(field.name for field in dataclasses.fields(Best))
SHOWN = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR100")


def parser() -> cli.Parser:
    """The flags."""
    parser = cli.Parser(
        "evaluate",
        __doc__,
        "Images without ground truth, or without a row in OUTPUT, are counted and named. Exit "
        "codes: 0 done, 1 failed, 2 usage.",
    )
    add = parser.add_argument
    add("output", metavar="OUTPUT", help="the --output of a finished prelabel detect")
    add(
        "--annotations",
        metavar="FILE",
        help="annotations in any format of prelabel export; path or URL",
    )
    add(
        "--image-key",
        metavar="NAME",
        help="carried column with the image id or file name of "
        "the annotations (default: the end of image_uri is the file name)",
    )
    add(
        "--classes",
        metavar="FILE",
        help="YAML that keeps and renames classes: a list of names, or `name: new name` lines",
    )
    add(
        "--present-only",
        action="store_true",
        help="leave out annotated images that OUTPUT has no "
        "row for; otherwise they count as images in which nothing was found",
    )
    add("--to", metavar="DIR", help="also write metrics.json, metrics.txt and categories.parquet")
    return parser


def text(found: Evaluation, best: dict[str, Best], remarks: list[str], export: list[str]) -> str:
    """The result for a person.

    Args:
        found: the metrics.
        best: where to cut each category.
        remarks: lines for the end.
        export: flags of the export that cuts there.
    """
    lines = [f"{name:10} {number(value)}" for name, value in found.metrics.items()]
    width = max([min(len(entry["name"]), WIDEST) for entry in found.categories] + [8])
    head = " ".join(f"{name:>9}" for name in ("truth", "found", *SHOWN))
    lines += ["", f"{'category':{width}} {head}"]
    for entry in found.categories:
        cells = [f"{entry['ground_truth']:,}", f"{entry['detections']:,}"]
        cells += [number(entry[name]) for name in SHOWN]
        lines.append(
            f"{words.printable(entry['name'], WIDEST):{width}} "
            + " ".join(f"{cell:>9}" for cell in cells)
        )
    lines += thresholds(best, width, export)
    lines += ["", f"{words.count(found.images, 'annotated image')} evaluated with {found.backend}"]
    if found.beyond_limit:
        lines.append(
            f"{found.beyond_limit:,} detections beyond the best 100 per image and category: "
            "COCO's metrics leave them out"
        )
    return "\n".join([*lines, *remarks])


def thresholds(best: dict[str, Best], width: int, export: list[str]) -> list[str]:
    """Where to cut each category, and the export that does it."""
    if not best:
        return []
    head = " ".join(f"{name:>9}" for name in ("threshold", "precision", "recall", "F1"))
    lines = ["", f"best F1 at an IoU of {IOU:g}, all boxes of an image counted", ""]
    lines.append(f"{'category':{width}} {head}")
    for name, at in best.items():
        cells = [f"{at.threshold:.2f}", number(at.precision), number(at.recall), number(at.f1)]
        shown = words.printable(name, WIDEST)
        lines.append(f"{shown:{width}} " + " ".join(f"{cell:>9}" for cell in cells))
    return [*lines, "", f"to export    {words.command('export')} {shlex.join(export)}"]


def _export(
    given: Mapping[str, Any], truth: Truth, names: Sequence[str], best: dict[str, Best]
) -> list[str]:
    """The flags of the export with these thresholds, by the run's own names of classes."""
    by_id = {truth.category_ids[name]: at for name, at in best.items()}
    pairs = zip(names, map(by_id.get, truth.ids_of(names)), strict=True)
    cuts = [f"{name}={at.threshold:.2f}" for name, at in pairs if at]
    mapping = ["--classes", given["classes"]] if "classes" in given else []
    return [given["output"], "--format", "coco", "--to", "export", *mapping, "--category", *cuts]


def notes(output: Output, matched: Matched, foreign: Counter[str], present_only: bool) -> list[str]:
    """What is not like it should be, a line each."""
    lines = []
    if not matched.whole_names:
        count = len(matched.uris) - len(matched.absent)
        lines.append(
            f"{count:,} images matched by the last part of their names only: the folders differ"
        )
    if matched.failed:
        lines.append(
            f"{len(matched.failed):,} annotated images failed in the run, counted as images with "
            "nothing found"
        )
    if matched.absent:
        names = ", ".join(_absent(matched))
        then = "left out" if present_only else "counted as images with nothing found"
        lines.append(
            f"{len(matched.absent):,} annotated images have no row in the run, {then}: {names}"
        )
    if matched.without_truth:
        names = ", ".join(uri.rpartition("/")[2] for uri in matched.without_truth_examples)
        lines.append(f"{matched.without_truth:,} images of the run have no annotations: {names}")
    for name, count in sorted(matched.left_out.items()):
        quoted = repr(words.printable(name, 100))
        lines.append(
            f"{count:,} detections of {quoted}, which is not a category of the annotations, left "
            "out"
        )
    lines += strays.notes(matched.truth, foreign)
    threshold = output.detector["score_threshold"]
    if threshold > 0.05:
        lines.append(f"the run kept no score below {threshold:g}: AP is lower than the network's")
    if not output.detector["trained"]:
        lines.append("the weights are UNTRAINED: these figures mean nothing")
    return lines


def _absent(matched: Matched) -> list[str]:
    """Names of some images of the truth that the run lacks, without what is secret in them."""
    names, ids = matched.truth.names, matched.truth.ids
    return [words.printable(names[p] or ids[p], 200) for p in matched.absent[:NAMED_IMAGES]]


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def record(output: Output, matched: Matched, found: Evaluation) -> dict[str, object]:
    """The result for a program."""
    truth = matched.truth
    return {
        "output": output.url,
        "run_id": output.record["run_id"],
        "weights": {k: output.record["weights"][k] for k in ("model_id", "sha256", "trained")},
        "score_threshold": output.detector["score_threshold"],
        "annotations": urls.public(truth.url),
        **dataclasses.asdict(found),
        "whole_names": matched.whole_names,
        "failed": len(matched.failed),
        "absent": {"count": len(matched.absent), "examples": _absent(matched)},
        "without_truth": {
            "count": matched.without_truth,
            "examples": matched.without_truth_examples,
        },
        "left_out": matched.left_out,
        "annotations_left_out": truth.left_out,
        "unreviewed": truth.unreviewed,
    }


def job(arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    given = parser().given(arguments, "annotations")
    output = open_output(given["output"])
    truth = without_redone(output, load_truth(given["annotations"]))
    every = output.every_category
    chosen = classes.choose(every, mapping=given.get("classes"))
    matched = match(output, truth, chosen, given.get("image_key"))
    present_only = given.get("present_only", False)
    truth, foreign = strays.check(output, matched, every.values(), chosen.names, present_only)
    matched.truth = truth
    found = evaluate(truth, matched, present_only)
    best = best_thresholds(truth, matched, present_only)
    for entry in found.categories:
        at = best.get(entry["name"])
        entry |= dataclasses.asdict(at) if at else dict.fromkeys(AT_BEST)
    remarks = notes(output, matched, foreign, present_only)
    shown = text(found, best, remarks, _export(given, truth, chosen.names, best))
    print(shown)
    if "to" in given:
        write(given["to"], shown, record(output, matched, found), found)
    return 0


def write(url: str, shown: str, content: dict[str, object], found: Evaluation) -> None:
    """The three files."""
    kinds = {"name": pa.string()} | dict.fromkeys(("id", "ground_truth", "detections"), pa.int64())
    schema = pa.schema({**kinds, **dict.fromkeys((*METRICS, *AT_BEST), pa.float64())})
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(found.categories, schema), table)
    files = {
        "categories.parquet": table.getvalue(),
        "metrics.txt": f"{shown}\n".encode(),
        "metrics.json": json.dumps(content, indent=2, ensure_ascii=False).encode(),
    }
    fs, folder = urls.filesystem(checked_url("--to", url))
    try:
        for name, data in files.items():
            objects.put(fs, f"{folder}/{name}", data)
    except OSError as error:
        raise failures.unusable("write", url, error) from error


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("evaluate", job, arguments, "nothing was written; start it again")


if __name__ == "__main__":
    sys.exit(main())
