"""Detect objects in every image of a bucket, folder or table; write one Parquet row an image."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

from jobs import cli
from pipeline.config import Config, from_yaml
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.driver.runner import Summary

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
    """Those that say what a run does. None has a default here: they stand in `pipeline.Config`.

    Args:
        parser: receives them.
        output: whether `--output` is one of them.
    """
    add = parser.add_argument
    add(
        "--input",
        metavar="URL",
        help="folder, prefix, glob, image, or table of URIs (Parquet, "
        "CSV, JSONL, text); path, s3:// or any fsspec URL",
    )
    if output:
        add("--output", metavar="URL", help="folder or prefix for detections/ and _run/")
    add("--config", metavar="FILE", help="YAML with any field of pipeline.Config; flags win")
    add(
        "--weights",
        metavar="W",
        help="DEFAULT, COCO_V1, path or URL of a .pth/.pt/.safetensors "
        f"file, or random:SEED (default {Config.weights})",
    )
    add("--categories", metavar="FILE", help="class names: text, one a line, or COCO JSON")
    add(
        "--score-threshold",
        dest="box_score_thresh",
        type=float,
        metavar="P",
        help="keep detections above this score (default 0.05)",
    )
    add(
        "--max-detections",
        dest="box_detections_per_img",
        type=int,
        metavar="N",
        help="keep at most so many detections an image (default 100)",
    )
    add(
        "--min-size",
        type=int,
        metavar="PIXELS",
        help="short side of the image in the network (default 800)",
    )
    add(
        "--extensions",
        nargs="+",
        metavar="EXT",
        help=f"file name endings to list (default {' '.join(Config.extensions)})",
    )
    add("--limit", type=int, metavar="N", help="process at most N images")
    add("--uri-column", metavar="NAME", help="column of the input table that holds the URIs")
    add("--bytes-column", metavar="NAME", help="column of a Parquet input with the image bytes")
    add("--carry", nargs="+", metavar="NAME", help="columns of the input table to carry through")
    add(
        "--trust-uris",
        action="store_true",
        help="a table may name local files, any protocol and "
        "link-local addresses wherever it stands itself; only for tables of your own",
    )
    add("--device", metavar="D", help=f"auto, cuda or cpu (default {Config.device})")
    add("--replicas", type=int, metavar="N", help="models at once (default: what fits)")
    add("--gpus-per-replica", type=float, metavar="X", help="may be a fraction (default 1)")
    add("--cpus-per-replica", type=float, metavar="X", help="default: about 4")
    add(
        "--micro-batch",
        type=int,
        metavar="N",
        help="images in one forward (default 8 on a GPU, 1 on a CPU)",
    )
    add(
        "--precision",
        metavar="P",
        help="of the network: fp32, or fp16, whose boxes are a little "
        f"off (default {Config.precision})",
    )
    add(
        "--max-pixels",
        type=int,
        metavar="N",
        help=f"larger images become error rows (default {Config.max_pixels})",
    )
    add(
        "--max-error-rate",
        type=float,
        metavar="X",
        help="stop if a larger fraction of the "
        "images failed, judged after the first 1,000; exit 3 if the end finds it so "
        f"(default {Config.max_error_rate})",
    )
    add(
        "--stall-timeout",
        type=float,
        metavar="S",
        help="end the run and say why when nothing "
        f"has moved for so many seconds (default {Config.stall_timeout:g})",
    )
    add(
        "--grace",
        type=float,
        metavar="S",
        help="seconds to finish what is in flight after "
        f"Ctrl-C or SIGTERM (default {Config.grace:g})",
    )


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
    kept = "what is committed is kept; the same command continues"
    return cli.main("jobs.detect", job, arguments, kept)


if __name__ == "__main__":
    cli.leave(main())
