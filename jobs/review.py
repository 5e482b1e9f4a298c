"""Tell what people did to the boxes of an output: moved, relabelled, deleted, added."""

from __future__ import annotations

import sys
from typing import Any

from jobs import cli
from pipeline.labels import classes
from pipeline.labels.annotations import load_truth
from pipeline.labels.output import Output, open_output
from pipeline.labels.redone import without_redone
from pipeline.labels.review.reviewing import CORRECTIONS, check_run, review
from pipeline.labels.review.tally import Effort
from pipeline.labels.review.text import text
from pipeline.labels.truth import Truth

CHOICE = ("score_threshold", "category", "classes", "agnostic_nms")


def parser() -> cli.Parser:
    """The flags."""
    parser = cli.Parser(
        "review",
        __doc__,
        "The boxes that people were shown are those of the export: its export.json beside the "
        "corrections says which; --score-threshold, --category, --classes and --agnostic-nms win "
        "over it. Exit codes: 0 done, 1 failed, 2 usage. A review is complete when --to holds "
        "review.json.",
    )
    add = parser.add_argument
    corrections = "corrected boxes: COCO, Label Studio, CVAT, YOLO, VOC, FiftyOne, Hugging Face"
    kept = "people saw boxes of at least this score (default: as export.json says, or all)"
    add("output", metavar="OUTPUT", help="the --output of a finished prelabel detect")
    add("--corrections", metavar="URL", help=corrections)
    add("--to", metavar="DIR", help="empty or new folder for corrections.parquet and review.json")
    add("--score-threshold", type=float, metavar="P", help=kept)
    own = "threshold for one class, in place of --score-threshold"
    add("--category", nargs="+", action="extend", metavar="NAME=SCORE", help=own)
    add("--classes", metavar="FILE", help="the YAML that was given to the export as --classes")
    cli.add_agnostic_nms(parser)
    present = "leave out corrected images that OUTPUT lacks, even if they are most"
    add("--present-only", action="store_true", help=present)
    box = f"time to draw a box (default {Effort.box:g}, Su et al. 2012)"
    look = f"time to judge a shown box (default {Effort.look:g}, likewise)"
    add("--seconds-per-box", type=float, metavar="S", help=box)
    add("--seconds-per-look", type=float, metavar="S", help=look)
    return parser


def shown(output: Output, truth: Truth, given: dict[str, Any]) -> tuple[classes.Classes, str]:
    """The boxes that people saw, and in words how that is known."""
    record = truth.exports[0] if truth.exports else {}
    given_thresholds = classes.parse_assignments(given.get("category", []), "--category NAME=SCORE")
    thresholds = record.get("thresholds", {}) | given_thresholds
    score = given.get("score_threshold", record.get("score_threshold", 0.0))
    single = given.get("agnostic_nms", record.get("agnostic_nms"))
    if "classes" in given or not record:
        mapping = given.get("classes")
        chosen = classes.choose(output.categories, score, thresholds, mapping, agnostic_nms=single)
    else:
        changed = record | {
            "score_threshold": score,
            "thresholds": thresholds,
            "agnostic_nms": single,
        }
        chosen = classes.of_export(output.categories, changed)
    known = ["as the flags say"] if any(name in given for name in CHOICE) else []
    known += ["as export.json says"] if record else []
    every = "all of the run, since there is no export.json beside the corrections"
    return chosen, ", else ".join(known) or every


def job(arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    given = parser().given(arguments, "corrections", "to")
    box, look = given.get("seconds_per_box", Effort.box), given.get("seconds_per_look", Effort.look)
    seconds = Effort(box, look)
    output = open_output(given["output"])
    truth = load_truth(given["corrections"])
    check_run(output, truth)
    truth = without_redone(output, truth)
    chosen, known = shown(output, truth, given)
    present_only = given.get("present_only", False)
    record = review(output, truth, chosen, given["to"], seconds, present_only)
    print(f"{text(record)}\n\nboxes that people saw: {known}")
    print(f"corrected boxes  {given['to'].rstrip('/')}/{CORRECTIONS}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("review", job, arguments, "start it again with a new --to")


if __name__ == "__main__":
    sys.exit(main())
