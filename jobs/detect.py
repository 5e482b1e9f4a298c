"""Detect objects in every image of a bucket, folder or table: one Parquet row per image."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import InitVar
from functools import partial
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from jobs import cli
from pipeline import words
from pipeline.config import Config, Option, from_yaml
from pipeline.errors import UsageError
from pipeline.options import as_number
from pipeline.reading import PUBLIC_HEADERS

if TYPE_CHECKING:
    from pipeline.driver.summary import Summary

# the field that begins each group of flags, as they stand in `Config`
GROUPS = {
    "input": "input and output",
    "weights": "the network",
    "extensions": "what is read",
    "device": "resources",
    "trust_uris": "rights and servers",
    "max_pixels": "images",
    "max_error_rate": "faults",
}
# what the user should know after an interruption
KEPT = "the same command continues"


def parser() -> cli.Parser:
    """The flags of the command."""
    parser = cli.Parser(
        "detect",
        __doc__,
        "S3 endpoint, region and credentials come from the usual AWS environment and profile. Exit "
        "codes: 0 complete, 1 failed (the same command continues), 2 usage, 3 complete with more "
        "errors than --max-error-rate.",
    )
    add_flags(parser)
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="list the input of an earlier run again, and process images that are new or changed",
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
    # all of them would hide the two that matter
    parser.usage = f"%(prog)s --input URL {'--output URL ' if output else ''}[FLAG ...]"
    fields = "YAML with any fields of pipeline.Config; flags win over it"
    parser.add_argument("--config", metavar="FILE", help=fields)
    group: argparse._ActionsContainer = parser
    for name, hint in get_type_hints(Config, include_extras=True).items():
        if name in GROUPS:
            group = parser.add_argument_group(GROUPS[name])
        kind, option = get_args(hint.type if isinstance(hint, InitVar) else hint)
        if name == "http_headers":
            _add_reading_flags(group)
        elif option.metavar is not None and (output or name != "output"):
            add_flag(group, name, kind, option, getattr(Config, name, None))


def add_flag(
    parser: argparse._ActionsContainer, name: str, kind: Any, option: Option, default: Any
) -> None:
    """The flag of a field; its type and its default are told by the field."""
    flag, text = f"--{name.replace('_', '-')}", option.help
    if kind is bool:
        parser.add_argument(flag, action="store_true", help=text)
        return
    kinds = [k for k in get_args(kind) if k is not type(None)] or [kind]
    several = any(get_origin(k) is tuple for k in (kind, *kinds))
    if default:
        shown = " ".join(default) if several else default
        text += f" (default {shown:g})" if isinstance(shown, float) else f" (default {shown})"
    if several:
        parser.add_argument(flag, nargs="+", metavar=option.metavar, help=text)
    else:
        convert = {int: _whole, str: None}.get(kinds[0], kinds[0])
        parser.add_argument(flag, type=convert, metavar=option.metavar, help=text)


def _whole(text: str) -> Any:
    """The whole number that a text is, such as `1e6`; of another text `Config` says what it is."""
    return as_number(text.replace("_", ""), whole=True)


def _add_reading_flags(parser: argparse._ActionsContainer) -> None:
    """Those of `http_headers` and `s3_options`."""
    add = partial(parser.add_argument, action="extend", nargs="+")
    text = (
        f"sent to all web servers: {', '.join(sorted(PUBLIC_HEADERS))}; others go into --config, "
    )
    text += "under http_headers by server, because other users can see a command line"
    add("--http-header", dest="http_headers", metavar="'NAME: VALUE'", help=text)
    text = "for reading, not for the output: anon, requester_pays, use_ssl, endpoint_url, profile"
    add("--s3-option", dest="s3_options", metavar="NAME=VALUE", help=text)
    text = "read public buckets without credentials: --s3-option anon=true"
    parser.add_argument("--s3-anonymous", action="store_true", help=text)


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
    for name, mark in (("http_headers", ":"), ("s3_options", "=")):
        if name in given:
            given[name] = _lines(values, name) | _pairs(cli.flag(name), given[name], mark)
    if given.pop("s3_anonymous", False):
        given["s3_options"] = given.get("s3_options", _lines(values, "s3_options")) | {"anon": True}
    for name in ("input", "output"):
        if name not in values | given:
            raise UsageError(f"--{name} is missing; see --help")
    try:
        return Config(**values | given)
    except UsageError as error:
        raise cli.as_typed(error, given) from error


def _lines(values: dict[str, Any], name: str) -> dict[str, Any]:
    lines = values.get(name) or {}
    if not isinstance(lines, dict):
        raise UsageError(f"{name} in --config must hold `name: value` lines")
    return lines


def _pairs(flag: str, texts: list[str], mark: str) -> dict[str, str]:
    """What flags of the form `NAME=VALUE` say; the complaint does not repeat what may be secret."""
    pairs = [text.partition(mark) for text in texts]
    if not all(found for _, found, _ in pairs):
        form = "'NAME: VALUE', in quotes" if mark == ":" else "NAME=VALUE"
        raise UsageError(f"{flag} must be {form}")
    return {key.strip(): value.strip() for key, _, value in pairs}


def show(summary: Summary) -> None:
    """The last lines of a run, for a person."""
    failed = sum(summary.errors.values())
    codes = ", ".join(f"{code} {count:,}" for code, count in summary.errors.items())
    print(f"images      {summary.images:,}")
    print(f"detections  {summary.detections:,}")
    print(f"errors      {failed:,}" + (f" ({codes})" if failed else ""))
    if summary.duplicates:
        print(f"repeated    {summary.duplicates:,} rows of the input left out")
    if summary.low_contrast:
        print(
            f"contrast    {summary.low_contrast:,} images of more than 8 bits per sample use at "
            f"most a 16th of the grey levels, such as {summary.low_contrast_example}; see "
            "--depth-range"
        )
    if summary.processed:
        rate = summary.processed / summary.seconds
        print(f"rate        {rate:.2f} images/s over {summary.seconds:.0f} s, start-up included")
    print(f"output      {summary.output}  (Parquet files in detections/)")
    print(f"look at it  {words.command('report')} {shlex.quote(summary.output)} --to report.html")
    if failed:
        table = shlex.quote(f"{summary.output}/detections/status=error")
        print(f"retry them  the same command with --input {table}")
    if summary.exit_code == 3:
        print(
            f"prelabel detect: {failed:,} of {summary.images:,} images failed, more than "
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
    return cli.main("detect", job, arguments, KEPT)


if __name__ == "__main__":
    cli.leave(main())
