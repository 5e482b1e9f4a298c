"""Say what a run will take: try some of its images, forecast time and money."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import uuid
from collections.abc import Iterator

from jobs import cli, detect
from pipeline.errors import UsageError
from pipeline.locations import checked_url

log = logging.getLogger("jobs.plan")


def parser() -> cli.Parser:
    """The flags: those of the run that is planned, and a few of our own."""
    parser = cli.Parser(
        "plan",
        __doc__,
        "The flags of prelabel detect mean the same here. Exit codes: 0 told, 1 failed, 2 usage.",
    )
    detect.add_flags(parser, output=False)
    add = parser.add_argument
    add(
        "--sample",
        type=int,
        metavar="N",
        help="images to try (default 400 on GPUs, 40 on CPUs; with --tile a tenth of that)",
    )
    add(
        "--prices",
        metavar="FILE",
        help="YAML table with prices of machines and of requests "
        "(default: pipeline/forecast/prices.yaml)",
    )
    add(
        "--scratch",
        metavar="URL",
        help="folder or prefix that all nodes can reach; the trial's rows "
        "stay there, in a folder of their own (on one machine: a temporary folder)",
    )
    return parser


@contextlib.contextmanager
def scratch(url: str | None) -> Iterator[str]:
    """Where the trial writes."""
    if url is not None:
        # of its own, so that no run is there, nor an earlier trial
        yield f"{checked_url('--scratch', url).rstrip('/')}/plan-{uuid.uuid4().hex[:8]}"
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield f"{folder}/trial"


def job(arguments: list[str]) -> int:
    """Plan; returns the exit code."""
    given = parser().given(arguments)
    size, chosen = given.pop("sample", None), given.pop("scratch", None)
    if size is not None and size < 1:
        raise UsageError(f"--sample must be at least 1, not {size}")
    from pipeline.driver.checks import check
    from pipeline.forecast.prices import PRICES, read_prices

    prices = read_prices(given.pop("prices", PRICES))
    with scratch(chosen) as folder:
        config = detect.configured(given | {"output": folder})
        log.info("looking at input, weights and scratch")
        check(config, dry_run=False)
        log.info("loading torch and Ray")
        from pipeline.forecast.planning import plan

        print(plan(config, prices, size, shared=chosen is not None))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("plan", job, arguments, "nothing was kept; start it again")


if __name__ == "__main__":
    cli.leave(main())
