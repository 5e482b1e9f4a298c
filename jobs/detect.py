"""Detect objects in every image of a bucket, folder or table; write one Parquet row an image."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from jobs import cli
from pipeline.config import Config, Option, from_yaml
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.driver.summary import Summary

# what the user should know after an interruption
KEPT = "the same command continues"
# flags of keywords under `model:`
MODEL_FLAGS = ("min_size", "box_score_thresh", "box_detections_per_img")


def parser() -> cli.Parser:
    """The flags of the command."""
    parser = cli.Parser(
        "python -m jobs.detect",
        __doc__,
        "Exit codes: 0 complete, 1 failed (the same command continues), 2 usage, "
        "3 complete with more errors than --max-error-rate. S3 endpoint, region and credentials "
        "come from the usual AWS environment and profile.",
    )
    add_flags(parser)
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="list the input of an earlier run again, and process what is new or has changed, too",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would run, and stop")
    return parser


def add_flags(parser: cli.Parser, output: bool = True) -> None:
    """Those of `Config`'s fields, and of some keywords of the network.

    None has a default here: they stand in `pipeline.Config`.

    Args:
        parser: receives them.
        output: whether `--output` is one of them.
    """
    fields = "YAML with any field of pipeline.Config; flags win"
    parser.add_argument("--config", metavar="FILE", help=fields)
    for name, hint in get_type_hints(Config, include_extras=True).items():
        kind, option = get_args(hint)
        if name == "model":
            _add_model_flags(parser)
        elif option.metavar is not None and (output or name != "output"):
            _add_flag(parser, name, kind, option)


def _add_flag(parser: cli.Parser, name: str, kind: Any, option: Option) -> None:
    """The flag of a field, its type and its default told by the field."""
    flag, default, text = f"--{name.replace('_', '-')}", getattr(Config, name, None), option.help
    if kind is bool:
        parser.add_argument(flag, action="store_true", help=text)
        return
    kinds = [k for k in get_args(kind) if k is not type(None)] or [kind]
    several = kind == tuple[str, ...]
    if default:
        shown = " ".join(default) if several else default
        text += f" (default {shown:g})" if isinstance(shown, float) else f" (default {shown})"
    if several:
        parser.add_argument(flag, nargs="+", metavar=option.metavar, help=text)
    else:
        parser.add_argument(flag, type=kinds[0], metavar=option.metavar, help=text)


def _add_model_flags(parser: cli.Parser) -> None:
    add = parser.add_argument
    more = "detections an image, at most (default 100)"
    above = "keep detections above this score (default 0.05)"
    side = "short side of the image in the network (default 800)"
    add("--score-threshold", dest="box_score_thresh", type=float, metavar="P", help=above)
    add("--max-detections", dest="box_detections_per_img", type=int, metavar="N", help=more)
    add("--min-size", type=int, metavar="PIXELS", help=side)


def parse(arguments: list[str]) -> tuple[Config, bool, bool]:
    """The configuration (flag before YAML before default), whether it is a dry run, and whether the
    input is to be listed again.

    Raises:
        UsageError: what no run could be.
    """
    given = parser().given(arguments)
    dry_run, refresh = given.pop("dry_run", False), given.pop("refresh", False)
    return configured(given), dry_run, refresh


def configured(given: dict[str, Any]) -> Config:
    """The configuration of the flags that were given.

    Raises:
        UsageError: what no run could be.
    """
    values = from_yaml(given.pop("config")) if "config" in given else {}
    model = values.get("model") or {}
    if not isinstance(model, dict):
        raise UsageError("model in --config must hold `name: value` lines")
    model_flags = {name: given.pop(name) for name in MODEL_FLAGS if name in given}
    values |= given | {"model": model | model_flags}
    for name in ("input", "output"):
        if name not in values:
            raise UsageError(f"--{name} is missing; see --help")
    return Config(**values)


def show(summary: Summary) -> None:
    """The last lines of a run, for a person."""
    failed = sum(summary.errors.values())
    codes = ", ".join(f"{code} {count:,}" for code, count in summary.errors.items())
    print(f"images      {summary.images:,}")
    print(f"detections  {summary.detections:,}")
    print(f"errors      {failed:,}" + (f" ({codes})" if failed else ""))
    if summary.duplicates:
        print(f"repeated    {summary.duplicates:,} rows of the input, each image processed once")
    if summary.processed:
        rate = summary.processed / summary.seconds
        print(f"rate        {rate:.2f} images/s over {summary.seconds:.0f} s, start-up included")
    print(f"output      {summary.output}/detections")
    folder = f"{summary.output}/detections"
    print(f"look at it  python -m jobs.report {shlex.quote(summary.output)} --to report.html")
    if failed:
        print(f"retry them  the same command with --input {folder}/status=error")
    if summary.exit_code == 3:
        print(
            f"jobs.detect: {failed:,} of {summary.images:,} images failed, more than "
            f"--max-error-rate {summary.max_error_rate:g} allows",
            file=sys.stderr,
        )


def job(arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    config, dry_run, refresh = parse(arguments)
    from pipeline.driver.runner import run

    summary = run(config, dry_run=dry_run, refresh=refresh)
    if summary:
        show(summary)
    return summary.exit_code if summary else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("jobs.detect", job, arguments, KEPT)


if __name__ == "__main__":
    cli.leave(main())
