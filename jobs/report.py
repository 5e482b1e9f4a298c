"""Write an HTML page about a finished output: what ran, what it found, pictures."""

from __future__ import annotations

import sys

from jobs import cli
from pipeline.labels.calibration import load
from pipeline.labels.output import open_output
from pipeline.labels.report import page


def parser() -> cli.Parser:
    """The flags."""
    parser = cli.Parser(
        "report",
        __doc__,
        "Exit codes: 0 written, 1 failed, 2 usage. The file needs no network and no other file.",
    )
    add = parser.add_argument
    add("output", metavar="OUTPUT", help="the --output of a finished prelabel detect; path or URL")
    add("--to", metavar="FILE", help="HTML file to write, path or URL; an existing one is replaced")
    add(
        "--score-threshold",
        type=float,
        metavar="P",
        help=f"show boxes of at least this score at first (default {page.SCORE_THRESHOLD})",
    )
    probabilities = "of prelabel calibrate: show probabilities of being right instead of scores"
    add("--calibration", metavar="FILE", help=probabilities)
    add("--pictures", type=int, metavar="N", help=f"pictures per gallery (default {page.PICTURES})")
    cli.add_agnostic_nms(parser)
    return parser


def job(arguments: list[str]) -> int:
    """Write it; returns the exit code."""
    given = parser().given(arguments, "to")
    target = cli.Target("--to", given.pop("to"), "report.html")
    output = open_output(given.pop("output"))
    if "calibration" in given:
        given["calibration"] = load(given["calibration"], output)
    report = page.build(output, **given)
    target.write(report.data)
    print(f"report  {target.url}: {report.told}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("report", job, arguments, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
