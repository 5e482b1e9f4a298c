"""The command line; it needs no torch, but for `--pack`."""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import benchmarks.gpu
from benchmarks.gpu import folder, table, visit
from benchmarks.gpu.plan import STAGES, Asked, Stage
from pipeline.errors import UsageError


def named(stages: Sequence[Stage], text: str) -> list[Stage]:
    """Those of these names, in order of value."""
    names = text.split(",")
    known = [stage.name for stage in stages]
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"no stage {unknown[0]!r}; there are {', '.join(known)}")
    return [stage for stage in stages if stage.name in names]


def arguments(words: Sequence[str] | None, stages: Sequence[Stage]) -> argparse.Namespace:
    """What the command line says."""
    only = partial(named, stages)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=benchmarks.gpu.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, help="folder of results.jsonl, log.txt, profile.txt and table.txt")
    add("--bring", type=Path, help="folder made by --pack")
    add("--only", type=only, default=stages, metavar="STAGE[,STAGE]", help="no others")
    add("--seconds", type=float, default=480.0, help="for all stages together; default 480")
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--tiny", action="store_true", help="as little as possible, to see that it runs")
    add("--pack", type=Path, metavar="FOLDER", help="make the folder to bring, and nothing else")
    add("--weights", type=Path, help="for --pack: a state dict")
    add("--images", type=Path, help="for --pack: folder of the pictures")
    add("--annotations", type=Path, help="for --pack: of the pictures, COCO's JSON")
    add("--model", type=json.loads, default={}, help="for --pack: JSON of the network's keywords")
    given = parser.parse_args(words)
    if given.pack:
        if not (given.weights and given.images and given.annotations):
            parser.error("--pack takes --weights, --images and --annotations")
    elif not given.out:
        parser.error("where to? --out FOLDER")
    return given


def gpus() -> int:
    """How many GPUs there are; asked of the driver, as torch takes seconds to be imported."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    seen = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if seen else 0


def run(given: argparse.Namespace) -> int:
    """
    Returns:
        1 if a stage failed.

    Raises:
        UsageError: something that was named is not there.
    """
    if given.device == "cuda" and not gpus():
        raise UsageError("there is no GPU here; --device cpu --tiny shows whether the stages run")
    if given.bring:
        folder.check(given.bring)
    with tempfile.TemporaryDirectory() as scratch:
        asked = Asked(
            device=given.device,
            tiny=given.tiny,
            bring=str(given.bring.resolve()) if given.bring else None,
            out=str(given.out.resolve()),
            scratch=scratch,
        )
        outcomes, rows = visit.visit(given.only, asked, given.seconds)
    text = table.table(rows, outcomes)
    Path(asked.out, "table.txt").write_text(text + "\n")
    print(text)
    return 1 if any(outcome.status == visit.FAILED for outcome in outcomes) else 0


def main(words: Sequence[str] | None = None, stages: Sequence[Stage] = STAGES) -> int:
    """
    Args:
        words: of the command line; by default those of this process.
        stages: all that there are.
    """
    given = arguments(words, stages)
    try:
        if given.pack:
            size = folder.pack(
                given.pack, given.weights, given.images, given.annotations, given.model
            )
            print(f"{given.pack}: {size / 1e6:.1f} MB")
            return 0
        return run(given)
    except KeyboardInterrupt:
        return 130
    except (UsageError, OSError) as error:
        print(f"python -m benchmarks.gpu: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
