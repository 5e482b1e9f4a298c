"""Learn from corrected images which scores to trust, and which boxes need no look."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Collection

from jobs import cli
from pipeline import words
from pipeline.labels import classes, strays
from pipeline.labels.annotations import load_truth
from pipeline.labels.calibrate import calibrate
from pipeline.labels.calibration import Calibration, Claim, Group, encode
from pipeline.labels.match import match
from pipeline.labels.output import open_output
from pipeline.labels.redone import without_redone

PRECISION = 0.98
CONFIDENCE = 0.95
WIDEST = 40


def parser() -> cli.Parser:
    """The flags."""
    parser = cli.Parser(
        "calibrate",
        __doc__,
        "The corrected images must be a random draw of the run's. prelabel export takes FILE as "
        "--accept, prelabel select and prelabel report as --calibration. Exit codes: 0 written, 1 "
        "failed, 2 usage, or too few images for what is to be shown.",
    )
    add = parser.add_argument
    add("output", metavar="OUTPUT", help="the --output of a finished prelabel detect")
    corrections = "all true boxes of some images, as for prelabel evaluate"
    add("--corrections", metavar="C", help=corrections)
    add("--to", metavar="FILE", help="JSON file to write; an existing one is replaced")
    precision = f"least share of right boxes above a threshold (default {PRECISION:g})"
    confidence = f"confidence that this holds for all thresholds at once (default {CONFIDENCE:g})"
    key = "carried column with the image id or file name of the corrections"
    mapping = "YAML that renames classes to the names in the corrections"
    add("--precision", type=float, metavar="P", help=precision)
    add("--confidence", type=float, metavar="X", help=confidence)
    add("--image-key", metavar="NAME", help=key)
    add("--classes", metavar="FILE", help=mapping)
    return parser


def text(found: Calibration, left_out: Collection[str], foreign: Counter[str]) -> str:
    """The result for a person.

    Args:
        found: what was made.
        left_out: classes with boxes that are no categories of the corrections.
        foreign: annotations by category that is no class.
    """
    every = [*found.groups, found.overall]
    width = max(8, *(min(len(group.name), WIDEST) for group in every))
    heads = ("boxes", "right", "D-ECE", "after", "threshold", "accepted")
    lines = [f"{'category':{width}} " + " ".join(f"{head:>9}" for head in heads)]
    lines += [_line(group, width) for group in found.groups]
    # nothing applies the threshold of all boxes taken together
    lines.append(_line(found.overall, width, heads.index("threshold")))
    lines += [
        "",
        f"With a confidence of {found.claim.confidence:g}, at least {found.claim.precision:.4g} "
        "of the boxes at or above a threshold are",
        f"right in the {found.images - found.reviewed:,} images that were not reviewed, provided "
        f"that the {found.reviewed:,} reviewed are a random draw,",
        "and that the network was not trained on them.",
        "This says nothing about objects that were not found.",
    ]
    joint = found.claim.among(len(found.groups))
    for group in found.groups:
        if len(group.categories) > 1:
            lines.append(f"{group.name}, taken together: {strays.named(group.categories)}")
        if group.threshold is None:
            lines.append(_why_none(group, found, joint))
    if left_out:
        named = strays.named(left_out)
        lines.append(
            f"not among the categories of the corrections, so nothing is accepted: {named}"
        )
    if foreign:
        lines.append(
            f"{foreign.total():,} annotations of categories that are not classes of the run, not "
            f"used: {strays.named(foreign)}"
        )
    return "\n".join(lines)


def _line(group: Group, width: int, shown: int | None = None) -> str:
    cells = [
        f"{group.boxes:,}",
        f"{group.right / group.boxes:.1%}" if group.boxes else "-",
        f"{group.error_before:.4f}" if group.boxes else "-",
        f"{group.error_after:.4f}" if group.boxes else "-",
        "-" if group.threshold is None else f"{group.threshold:.4f}",
        f"{group.accepted_share:.1%}",
    ]
    name = words.printable(group.name, WIDEST)
    return f"{name:{width}} " + " ".join(f"{cell:>9}" for cell in cells[:shown])


def _why_none(group: Group, found: Calibration, claim: Claim) -> str:
    why = "too many of the boxes with the highest scores are wrong"
    if group.boxes < claim.least:
        images = round(claim.least * found.reviewed / max(group.boxes, 1))
        why = (
            f"that takes about {claim.least:,} reviewed boxes, from about "
            f"{words.count(images, 'image')}"
        )
    return f"{words.printable(group.name, WIDEST)}: nothing is accepted; {why}"


def job(arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    given = parser().given(arguments, "corrections", "to")
    target = cli.Target("--to", given["to"], "calibration.json")
    claim = Claim(given.get("precision", PRECISION), given.get("confidence", CONFIDENCE))
    output = open_output(given["output"])
    truth = without_redone(output, load_truth(given["corrections"]))
    every = output.every_category
    chosen = classes.choose(every, mapping=given.get("classes"))
    matched = match(output, truth, chosen, given.get("image_key"))
    _, foreign = strays.check(output, matched, every.values(), chosen.names, present_only=True)
    found = calibrate(output, chosen, matched, claim)
    target.write(encode(found))
    print(text(found, matched.left_out, foreign))
    if later := output.counts["ok"] - found.images:
        shown = words.count(later, "image")
        print(f"left out: {shown} processed after the export of the corrections, so not drawn from")
    print(f"written     {target.url}")
    print(f"use it      {_next(given['output'], target.url, found)}")
    return 0


def _next(output: str, url: str, found: Calibration) -> str:
    """The command that takes the file: an export, if that would accept anything."""
    run, made = shlex.quote(output), shlex.quote(url)
    if any(group.threshold is not None for group in found.groups):
        return f"{words.command('export')} {run} --accept {made} --format coco --to sets"
    return f"{words.command('report')} {run} --calibration {made} --to report.html"


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("calibrate", job, arguments, "nothing was written; start it again")


if __name__ == "__main__":
    sys.exit(main())
