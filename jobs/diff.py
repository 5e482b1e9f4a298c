"""Compare two finished outputs over the same images: what is the same, what has changed."""

from __future__ import annotations

import json
import shlex
import sys

from jobs import cli
from pipeline import words
from pipeline.errors import UsageError
from pipeline.labels import lists
from pipeline.labels.diff import page, summary
from pipeline.labels.diff.comparison import PICTURES, THRESHOLD, Options, compare
from pipeline.labels.diff.pairing import IOU


def parser() -> cli.Parser:
    """The flags."""
    parser = cli.Parser(
        "diff",
        __doc__,
        "Images pair by URI, or, where no URI is on both sides, by the path below the input. Exit "
        "codes: 0 compared, whatever has changed, 1 failed, 2 usage.",
    )
    add = parser.add_argument
    add("a", metavar="A", help="the --output of a finished prelabel detect; path or URL")
    add("b", metavar="B", help="another one over the same images")
    cut = f"boxes of at least this score count (default {THRESHOLD})"
    add("--score-threshold", type=float, metavar="P", help=cut)
    add("--iou", type=float, metavar="IOU", help=f"least IoU of a pair of boxes (default {IOU})")
    add("--classes", metavar="FILE", help="YAML that keeps and renames classes of both sides")
    cli.add_agnostic_nms(parser)
    right = "say which side is right, by annotations as for prelabel evaluate"
    add("--annotations", metavar="FILE", help=right)
    add("--to", metavar="FILE", help="HTML page with pictures; an existing file is replaced")
    add("--pictures", type=int, metavar="N", help=f"pictures in the page (default {PICTURES})")
    add("--json", metavar="FILE", help="also write the counts as JSON, for programs")
    listed = "list of the changed images: .parquet, .csv, .jsonl or .txt (URIs)"
    add("--list", metavar="FILE", help=listed)
    return parser


def job(arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    given = parser().given(arguments)
    a, b = given.pop("a"), given.pop("b")
    examples = {"to": "diff.html", "json": "diff.json", "list": "changed.parquet"}
    targets = {
        name: cli.Target(f"--{name}", given[name], example)
        for name, example in examples.items()
        if name in given
    }
    encode = lists.writer("--list", given["list"]) if "list" in given else None
    if "pictures" in given and "to" not in given:
        raise UsageError("--pictures goes with --to, which is missing")
    pictures = given.pop("pictures", PICTURES) if "to" in given else 0
    options = {name: value for name, value in given.items() if name not in targets}
    found = compare(a, b, Options(**options, pictures=pictures, listed="list" in targets))
    print(summary.text(found))
    if "json" in targets:
        content = json.dumps(summary.record(found), indent=2, ensure_ascii=False)
        targets["json"].write(content.encode(errors="replace"))
    if "list" in targets and encode:
        targets["list"].write(encode(found.tally.table()))
        if found.tally.changed:
            cut = f"--score-threshold {options.get('score_threshold', THRESHOLD):g}"
            if "agnostic_nms" in options:
                cut += f" --agnostic-nms {options['agnostic_nms']:g}"
            look = f"{shlex.quote(a)} --images {shlex.quote(given['list'])} {cut}"
            how = f"{look} --format pictures --to changed"
            print(f"\nlook at them  {words.command('export')} {how}")
    if "to" in targets:
        built = page.build(found)
        targets["to"].write(built.data)
        print(f"\npage  {targets['to'].url}: {built.told}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("diff", job, arguments, "start it again")


if __name__ == "__main__":
    sys.exit(main())
