"""Tell from an output how far its run is, whether it is at work, and what has failed."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

from jobs import cli
from pipeline.outputs.status import Status, look
from pipeline.words import duration

SHOWN_SLICES = 20


def parser() -> cli.Parser:
    """The flags."""
    parser = cli.Parser(
        "status",
        __doc__,
        "Changes nothing. Exit codes: 0 told, 1 reading failed, 2 usage.",
    )
    parser.add_argument("output", metavar="OUTPUT", help="the --output of prelabel detect")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    return parser


def word(status: Status) -> str:
    """`complete`, `running` or `stopped`."""
    return "running" if status.alive else "complete" if status.complete else "stopped"


def data(status: Status) -> dict[str, Any]:
    """What `--json` prints."""
    owner = status.owner or {}
    return {
        "output": status.url,
        "status": word(status),
        "images": status.images if status.slices is not None else None,
        "written": status.written,
        "errors": dict(status.errors.most_common()),
        "attempts": len(status.attempts),
        "started": status.attempts[-1]["started"] if status.attempts else None,
        "holder": {name: owner.get(name) for name in ("host", "pid")} if status.alive else None,
        "progress": owner.get("progress") if status.alive else None,
        "slices": [
            {
                "slice": part.index,
                "stage": part.stage,
                "images": part.images,
                "written": part.written,
            }
            for part in status.slices or ()
        ],
    }


def show(status: Status) -> None:
    """The same for a person."""
    owner = status.owner or {}
    print(f"{status.url} is {word(status)}")
    if status.attempts:
        print(f"attempt     {len(status.attempts)}, since {status.attempts[-1]['started']}")
    if status.alive:
        print(f"held by     process {owner.get('pid')} on {owner.get('host')}")
    elif status.owner:
        print(f"held by     nobody; process {owner.get('pid')} on {owner.get('host')} was killed")
    if status.slices is None:
        listed = (owner.get("progress") or {}).get("listed")
        listing = "still being listed" + (f", {listed:,} so far" if listed else "")
        print(f"images      {listing if status.alive else 'not yet listed'}")
    else:
        _show_images(status)
    if word(status) == "stopped":
        print("continue    with the command that began it")


def _show_images(status: Status) -> None:
    share = 100 * status.written // max(1, status.images)
    print(
        f"written     {status.written:,} of {status.images:,} images ({share} %), "
        f"{status.images - status.written:,} left"
    )
    progress = (status.owner or {}).get("progress") if status.alive else None
    if progress and "listed" not in progress:  # which a lease says until images are done
        left, rate = progress["seconds_left"], progress["images_per_second"]
        waiting = ", some of them not yet in a file" if progress["images"] else ""
        pace = f"{rate:g} images/s" if rate else "no rate yet"
        print(
            f"done        {progress['images']:,}{waiting}; {pace}"
            + ("" if left is None else f", {duration(left)} left")
        )
    codes = ", ".join(f"{code} {count:,}" for code, count in status.errors.most_common())
    print(f"errors      {status.errors.total():,}" + (f" ({codes})" if codes else ""))
    slices = status.slices or []
    stages = Counter(part.stage for part in slices)
    print(f"slices      {len(slices)}: " + ", ".join(f"{n} {stage}" for stage, n in stages.items()))
    for part in [part for part in slices if part.stage == "begun"][:SHOWN_SLICES]:
        print(f"  {part.index:<9} begun, {part.written:,} of {part.images:,} images written")


def job(arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    given = parser().given(arguments)
    status = look(given["output"])
    if "json" in given:
        print(json.dumps(data(status), indent=2))
    else:
        show(status)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("status", job, arguments, "nothing was changed; start it again")


if __name__ == "__main__":
    sys.exit(main())
