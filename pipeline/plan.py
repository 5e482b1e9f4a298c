"""What a run will take, here and on other machines, from a trial of a few of its images."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline import cluster
from pipeline.config import Config, UsageError
from pipeline.trial import Trial

PRICES = Path(__file__).with_name("prices.yaml")
# of a GPU's products at its peak, where no GPU was tried: an assumption, nothing measured
ASSUMED_SHARE = 0.25
LISTED_AT_ONCE = 1000
# rows of a file where a GPU is at work, see `cluster.place`
GPU_ROWS = 4096


@dataclass(frozen=True)
class Machine:
    """A line of the table of prices.

    Attributes:
        name: of the kind of machine.
        gpu: of Ray's accelerator types, such as `L4`.
        gpus, cpus: that it has.
        tflops: of one GPU at its peak.
        dollars_per_hour: for the whole machine.
    """

    name: str
    gpu: str
    gpus: int
    cpus: float
    tflops: float
    dollars_per_hour: float


@dataclass(frozen=True)
class Prices:
    """
    Attributes:
        machines: one at least.
        requests: dollars for a `get`, a `put` and a `list`.
    """

    machines: list[Machine]
    requests: dict[str, float]


@dataclass(frozen=True)
class Rates:
    """Images a second that one replica would do if nothing but the part in question took time."""

    fetch: float
    decode: float
    network: float
    write: float

    @property
    def bottleneck(self) -> str:
        """The part that is the slowest."""
        return min(vars(self), key=lambda part: float(vars(self)[part]))

    @property
    def least(self) -> float:
        return float(min(vars(self).values()))


def prices(path: str | Path = PRICES) -> Prices:
    """Read a table of prices.

    Raises:
        UsageError: it is none.
    """
    try:
        content: Any = yaml.safe_load(Path(path).read_text())
        machines = [Machine(**line) for line in content["machines"]]
        requests = {kind: float(content["requests_per_million"][kind]) / 1e6
                    for kind in ("get", "put", "list")}  # fmt: skip
        numbers = [(m.gpus, m.cpus, m.tflops, m.dollars_per_hour) for m in machines]
        if not machines or any(not value > 0 for line in numbers for value in line):
            raise ValueError("it must name a machine, and its numbers must be above 0")
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(
            f"--prices {path} is no table of prices ({reason}); begin with a copy of {PRICES}"
        ) from error
    return Prices(machines, requests)


def here(trial: Trial, config: Config) -> Rates:
    """On the machines of the trial. On a CPU the parts share its cores, as they did in it."""
    placement = trial.placement
    reads = placement.fetchers * config.fetch_concurrency / placement.replicas
    return Rates(
        fetch=reads / max(trial.fetch_seconds, 1e-9),
        decode=placement.threads / max(trial.decode_seconds, 1e-9),
        network=1 / trial.forward_seconds,
        write=1 / max(trial.write_seconds, 1e-9),
    )


def elsewhere(machine: Machine, trial: Trial, config: Config, gflop: float,
              tried: Machine | None) -> Rates:  # fmt: skip
    """An estimate for one GPU of another machine.

    Args:
        machine: which.
        trial: on the machines at hand.
        config: of the run.
        gflop: of a mean image in the network.
        tried: the machine of the trial, if it has a GPU that the table knows.
    """
    if tried:
        network = machine.tflops / tried.tflops / trial.forward_seconds
    else:
        network = ASSUMED_SHARE * machine.tflops * 1000 / gflop
    cpus = machine.cpus / machine.gpus - cluster.RESERVED_CPUS
    decode = min(cpus, cluster.REPLICA_CPUS) / max(trial.decode_seconds, 1e-9)
    return dataclasses.replace(here(trial, config), network=network, decode=decode)


def seconds(images: int, rates: Rates, replicas: int, start_up: float) -> float:
    """That a run takes from its command to its end."""
    return start_up + images / (rates.least * replicas)


def dollars(machine: Machine, gpus: int, seconds: float) -> float:
    """For as many machines as have so many GPUs."""
    return math.ceil(gpus / machine.gpus) * machine.dollars_per_hour * seconds / 3600


def requests(images: int, rows_per_file: int, each: dict[str, float]) -> float:
    """Dollars for listing and reading a bucket's objects, and for writing the rows."""
    lists, puts = images / LISTED_AT_ONCE, images / rows_per_file
    return images * each["get"] + lists * each["list"] + puts * each["put"]


def cpus_for(rates: Rates, trial: Trial) -> int:
    """Cores that decode as fast as one replica's network takes the images."""
    return max(1, math.ceil(rates.network * trial.decode_seconds))


def reads_for(rates: Rates, trial: Trial) -> int:
    """Reads that a fetch actor must have in flight for the replicas that it feeds."""
    fed = trial.placement.replicas / trial.placement.fetchers
    return max(Config.fetch_concurrency, math.ceil(1.5 * rates.least * fed * trial.fetch_seconds))
