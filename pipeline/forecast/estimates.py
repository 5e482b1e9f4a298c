"""Rates, times and costs, here and on other machines, from the trial of a few images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.cluster.placement import REPLICA_CPUS, RESERVED_CPUS
from pipeline.config import Config
from pipeline.forecast.prices import Machine
from pipeline.forecast.trial import Trial
from pipeline.network import precision

# Of the peak in `prices.yaml`, what the network reached on an H200, by what it computes with: half
# precision, float32 with TF32, float32 without. See benchmarks/engine.md.
MEASURED_ON = "H200"
SHARES = {"fp16": 0.9, "tf32": 0.43, "fp32": 0.3}
LISTED_AT_ONCE = 1000


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


def elsewhere(
    machine: Machine,
    trial: Trial,
    config: Config,
    options: Mapping[str, Any],
    gflop: float,
    tried: Machine | None,
) -> Rates:
    """An estimate for one GPU of another machine.

    Args:
        machine: which.
        trial: on the machines at hand.
        config: of the run.
        options: of the network, those among them that its checkpoint brings.
        gflop: of a mean image in the network.
        tried: the machine of the trial, if it has a GPU that the table knows.
    """

    def tflops(one: Machine) -> float:
        return SHARES[arithmetic(one, config.precision, options)] * one.tflops

    if tried:
        network = tflops(machine) / tflops(tried) / trial.forward_seconds
    else:
        network = tflops(machine) * 1000 / gflop
    cpus = machine.cpus / machine.gpus - RESERVED_CPUS
    decode = min(cpus, REPLICA_CPUS) / max(trial.decode_seconds, 1e-9)
    return dataclasses.replace(here(trial, config), network=network, decode=decode)


def arithmetic(machine: Machine, asked: str, options: Mapping[str, Any]) -> str:
    """What a network multiplies with there, of `SHARES`, where this precision is asked for."""
    if not machine.tf32:
        return "fp32"
    chosen = precision.chosen(machine.tf32, options) if asked == "auto" else asked
    return "fp16" if chosen == "fp16" else "tf32"


def run_seconds(images: int, rates: Rates, replicas: int, start_up: float) -> float:
    """That a run takes from its command to its end."""
    return start_up + images / (rates.least * replicas)


def machine_dollars(machine: Machine, gpus: int, seconds: float) -> float:
    """For as many machines as have so many GPUs."""
    return math.ceil(gpus / machine.gpus) * machine.dollars_per_hour * seconds / 3600


def request_dollars(images: int, rows_per_file: int, each: dict[str, float]) -> float:
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
