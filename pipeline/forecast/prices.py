"""What machines and requests cost: a table that the user may replace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.cluster.placement import RESERVED_CPUS
from pipeline.errors import UsageError
from pipeline.words import explain

PRICES = Path(__file__).with_name("prices.yaml")


@dataclass(frozen=True)
class Machine:
    """A line of the table of prices.

    Attributes:
        name: of the kind of machine.
        gpu: of Ray's accelerator types, such as `L4`.
        gpus, cpus: that it has.
        tflops: of one GPU at its peak.
        dollars_per_hour: for the whole machine.
        tf32: whether its GPU has that.
    """

    name: str
    gpu: str
    gpus: int
    cpus: float
    tflops: float
    dollars_per_hour: float
    tf32: bool = True


@dataclass(frozen=True)
class Prices:
    """
    Attributes:
        machines: one at least.
        requests: dollars for a `get`, a `put` and a `list`.
        source: where they were looked up and when; empty where nobody has.
    """

    machines: list[Machine]
    requests: dict[str, float]
    source: str


def read_prices(path: str | Path = PRICES) -> Prices:
    """Read a table of prices.

    Raises:
        UsageError: it is none.
    """
    try:
        content: Any = yaml.safe_load(Path(path).read_text())
        machines = [Machine(**line) for line in content["machines"]]
        per_million = content["requests_per_million"]
        requests = {kind: float(per_million[kind]) / 1e6 for kind in ("get", "put", "list")}
        numbers = [(m.gpus, m.cpus, m.tflops, m.dollars_per_hour) for m in machines]
        if not machines or any(not value > 0 for line in numbers for value in line):
            raise ValueError("it must list a machine, and its numbers must be above 0")
        if few := next((m for m in machines if m.cpus <= m.gpus * RESERVED_CPUS), None):
            raise ValueError(f"{few.name} must have more than {RESERVED_CPUS:g} CPUs per GPU")
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise UsageError(
            f"--prices {path} is not a table of prices ({explain(error)}); start from a copy of "
            f"{PRICES}"
        ) from error
    return Prices(machines, requests, str(content.get("source") or ""))
