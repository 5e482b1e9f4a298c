"""Choose the images that a person should look at first, and write them as a list."""

from __future__ import annotations

import sys

if __name__ == "select":  # `python jobs/detect.py` finds this file where Python's own is meant
    print("a job is started by `prelabel JOB`, or by `python -m jobs.JOB`", file=sys.stderr)
    sys.exit(2)

import shlex
from typing import Any

from jobs import cli
from pipeline import words
from pipeline.labels import classes, lists
from pipeline.labels.calibration import load
from pipeline.labels.output import open_output
from pipeline.labels.select import DIVERSITY, THRESHOLD, select
from pipeline.labels.value import DEFAULT_WEIGHTS


def parser() -> cli.Parser:
    """The flags."""
    weights = " ".join(f"{name}={weight:g}" for name, weight in DEFAULT_WEIGHTS.items())
    parser = cli.Parser(
        "select",
        __doc__,
        "The list has the columns rank, image_id, image_uri, value, its parts, and a reason in "
        "words; prelabel export takes it as --images, and prelabel detect as --input unless the "
        "images are members of archives, tables or videos.",
    )
    add = parser.add_argument
    add("output", metavar="OUTPUT", help="the --output of a finished prelabel detect")
    add("--budget", type=int, metavar="N", help="how many images to choose")
    add("--to", metavar="FILE", help="list to write: .parquet, .csv, .jsonl or .txt (URIs)")
    add(
        "--score-threshold",
        type=float,
        metavar="P",
        help=f"detections of at least this score count as right (default {THRESHOLD})",
    )
    add(
        "--diversity",
        type=float,
        metavar="X",
        help="0: choose by value only; 1: an image like one "
        f"chosen before has no value (default {DIVERSITY})",
    )
    add(
        "--weight",
        nargs="+",
        metavar="NAME=X",
        help=f"weights of the parts of the value (default {weights})",
    )
    add(
        "--classes",
        metavar="FILE",
        help="YAML that keeps and renames classes; others do not count",
    )
    add(
        "--calibration",
        metavar="FILE",
        help="of prelabel calibrate: use probabilities of being right instead of scores",
    )
    cli.add_agnostic_nms(parser)
    return parser


def job(arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    given = parser().given(arguments, "budget", "to")
    target = cli.Target("--to", given["to"], "look.parquet")
    encode = lists.writer("--to", given["to"])
    output = open_output(given["output"])
    calibration = load(given["calibration"], output) if "calibration" in given else None
    chosen = classes.choose(
        output.categories,
        mapping=given.get("classes"),
        calibration=calibration,
        agnostic_nms=given.get("agnostic_nms"),
    )
    weights = classes.parse_assignments(given.get("weight", []), "--weight NAME=X")
    threshold = given.get("score_threshold", THRESHOLD)
    diversity = given.get("diversity", DIVERSITY)
    found = select(output, chosen, given["budget"], threshold, diversity, weights)
    target.write(encode(found.rows))
    short = "" if len(found.rows) == given["budget"] else " (there are no more)"
    print(f"{len(found.rows):,} of {found.images:,} images{short}, best first: {given['to']}")
    print(f"correct them  {_next(given)}")
    return 0


def _next(given: dict[str, Any]) -> str:
    """The command that shows people the boxes that the list goes by."""
    told = {"score_threshold": THRESHOLD} | given
    names = ["agnostic_nms", "classes"]
    if "calibration" not in given:  # its probabilities are no scores, by which an export goes
        names.append("score_threshold")
    flags = [(name.replace("_", "-"), told[name]) for name in names if name in told]
    same = "".join(f" --{flag} {shlex.quote(str(value))}" for flag, value in flags)
    chosen_from, listed = shlex.quote(given["output"]), shlex.quote(given["to"])
    how = f"{chosen_from} --images {listed}{same} --format labelstudio --to tasks"
    return f"{words.command('export')} {how}"


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("select", job, arguments, "nothing was written; start it again")


if __name__ == "__main__":
    sys.exit(main())
