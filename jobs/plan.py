"""Say what a run will take: list the input, try some of its images, forecast time and money."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator

from jobs import cli, detect
from pipeline.config import UsageError, checked_url

IMAGES = {"cuda": 400, "cpu": 40}


def parser() -> cli.Parser:
    """The flags: those of the run that is planned, and a few of our own."""
    parser = cli.Parser(
        "python -m jobs.plan",
        __doc__,
        "The flags of jobs.detect mean here what they mean there. "
        "Exit codes: 0 told, 1 failed, 2 usage.",
    )
    detect.add_flags(parser, output=False)
    add = parser.add_argument
    add("--sample", type=int, metavar="N", help="images to try (default "
        f"{IMAGES['cuda']} on GPUs, {IMAGES['cpu']} on CPUs)")  # fmt: skip
    add("--prices", metavar="FILE", help="YAML table of machines, their prices and those of "
        "requests (default: pipeline/prices.yaml)")  # fmt: skip
    add("--scratch", metavar="URL", help="new folder or prefix for the trial's rows, which stay "
        "there, and which all nodes can reach (on one machine: a temporary folder)")  # fmt: skip
    return parser


@contextlib.contextmanager
def scratch(url: str | None) -> Iterator[str]:
    """Where the trial writes."""
    if url is not None:
        yield checked_url("--scratch", url)
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield f"{folder}/trial"


def job(arguments: list[str]) -> int:
    """Plan; returns the exit code."""
    given = parser().given(arguments)
    size, chosen = given.pop("sample", None), given.pop("scratch", None)
    if size is not None and size < 1:
        raise UsageError(f"--sample must be at least 1, not {size}")
    from pipeline import cluster, forecast, model, plan
    from pipeline.sample import draw
    from pipeline.trial import attempt

    prices = plan.prices(given.pop("prices", plan.PRICES))
    with scratch(chosen) as folder:
        config = detect.configured(given | {"output": folder})
        weights = model.resolve(config)
        cluster.connect()
        placement = cluster.place(config)
        if placement.waiting:  # what is not there cannot be tried
            config = dataclasses.replace(config, replicas=placement.replicas - placement.waiting)
            placement = cluster.place(config)
        nodes = cluster.alive()
        if len(nodes) > 1 and chosen is None:
            raise UsageError("give --scratch, a prefix that all nodes of the cluster can reach")
        sample = draw(config, size or IMAGES[placement.device])
        # the errors of a few images end no trial
        tried = dataclasses.replace(config, limit=None, max_error_rate=1.0)
        trial = attempt(tried, weights, placement, sample)
        machine = next((machine for machine in prices.machines
                        if any(f"accelerator_type:{machine.gpu}" in node for node in nodes)
                        and placement.gpus), None)  # fmt: skip
        print(forecast.text(config, weights, sample.counted, trial, prices, machine))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("jobs.plan", job, arguments, "nothing was kept; start it again")


if __name__ == "__main__":
    cli.leave(main())
