"""Prove from its files alone that an output is complete and its rows can be relied on."""

from __future__ import annotations

import shlex
import sys

from jobs import cli
from pipeline import words
from pipeline.labels.verify import Verification, verify


def parser() -> cli.Parser:
    """The flags."""
    parser = cli.Parser(
        "verify",
        __doc__,
        "Exit codes: 0 every check holds, 1 some do not or reading failed, 2 usage.",
    )
    parser.add_argument("output", metavar="OUTPUT", help="the --output of prelabel detect")
    return parser


def show(found: Verification) -> None:
    """A line a check, with examples of what breaks it."""
    for name, check in found.checks.items():
        verdict = "ok" if not check.breaches else words.count(check.breaches, "breach")
        print(f"{name:10} {verdict:>16}   {check.rule}")
        for example in check.examples:
            print(f"{'':28}   {words.printable(example, 1000)}")


def job(arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    found = verify(parser().given(arguments)["output"])
    show(found)
    if found.breaches:
        broken = [name for name, check in found.checks.items() if check.breaches]
        print(
            f"prelabel verify: {found.url} fails verification: "
            f"{words.count(found.breaches, 'breach')} of {', '.join(broken)}",
            file=sys.stderr,
        )
        return 1
    images, files = words.count(found.images, "image"), words.count(found.files, "file")
    print(f"{found.url} is complete: {images}, one row each, in {files}")
    print(f"look at it  {words.command('report')} {shlex.quote(found.url)} --to report.html")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("verify", job, arguments, "nothing was changed; start it again")


if __name__ == "__main__":
    sys.exit(main())
