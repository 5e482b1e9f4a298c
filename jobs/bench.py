"""Measure the engine against what a torchvision user would write, and a whole run."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from jobs import cli
from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.network.contract import ALLOCATOR
from pipeline.store import failures, objects

MODEL_FLAGS = ("min_size", "max_size")
LEAST_SIDE = 32


def parser() -> cli.Parser:
    """The flags."""
    parser = cli.Parser(
        "bench",
        __doc__,
        "Uses the GPU if torch sees one. Prints Markdown. Exit codes: 0 done, 1 failed, 2 usage.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer images and, on a CPU, smaller ones: minutes")
    add("--json", metavar="FILE", help="also write the figures there")
    add(
        "--weights",
        metavar="W",
        help="as for prelabel detect (default: stand-in weights, untrained "
        "but with a trained network's magnitudes)",
    )
    add("--min-size", type=int, metavar="PIXELS", help="short side of the image in the network")
    add("--max-size", type=int, metavar="PIXELS", help="most pixels of its long side")
    add("--no-pipeline", action="store_true", help="leave out the end-to-end run")
    return parser


def check(given: dict[str, Any]) -> None:
    """
    Raises:
        UsageError: it would fail only after minutes.
    """
    for name in MODEL_FLAGS:
        if given.get(name, LEAST_SIDE) < LEAST_SIDE:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} must be at least {LEAST_SIDE}, not {given[name]}")
    path = Path(given.get("json", "."))
    if not path.parent.is_dir() or ("json" in given and path.is_dir()):
        raise UsageError(
            f"cannot write --json {path}: its folder does not exist, or it is a folder itself"
        )
    if "no_pipeline" not in given and not importlib.util.find_spec("ray"):
        raise UsageError(
            "Ray, which the end-to-end run needs, is not installed; pass --no-pipeline to leave "
            "that run out"
        )


def job(arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    given = parser().given(arguments)
    check(given)
    import torch

    from pipeline.bench import mix, standin
    from pipeline.bench.extent import EXTENTS
    from pipeline.bench.measure import measure
    from pipeline.bench.report import markdown
    from pipeline.network.weights import resolve

    extent = EXTENTS["cuda" if torch.cuda.is_available() else "cpu", "quick" in given]
    options = {**extent.model, **{name: given[name] for name in MODEL_FLAGS if name in given}}
    if "weights" in given:
        config = Config(input=".", output=".", weights=given["weights"], model=options)
        weights = resolve(config, objects.read)
    else:
        weights = standin.weights(options)
    encoded = mix.encoded(extent.images)
    report = measure(weights, encoded, extent)
    if "no_pipeline" not in given:
        from pipeline.bench.endtoend import end_to_end

        report = dataclasses.replace(report, pipeline=end_to_end(weights, encoded, extent))
    print(markdown(report))
    if "json" in given:
        try:
            Path(given["json"]).write_text(json.dumps(report.data(), indent=2) + "\n")
        except OSError as error:
            raise failures.unusable("write", given["json"], error) from error
    return 0


def as_a_replica() -> None:
    """Start this command anew, in the environment of a replica on a CPU, unless it has that.

    On a machine with a GPU, whose replicas have another one, it goes on as it is.
    """
    gpu = Path("/proc/driver/nvidia/version").exists()
    if not gpu and not os.environ.keys() >= ALLOCATOR.keys():
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, os.environ | ALLOCATOR)


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("bench", job, arguments, "nothing was written; start it again")


if __name__ == "__main__":
    as_a_replica()
    cli.leave(main())
