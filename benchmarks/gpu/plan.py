"""The stages in order of value, and what each of them is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """One process.

    Attributes:
        name: in the table, and of `--only`.
        task: `module:function`; the function takes a `record.Record`.
        limit: seconds after which it is killed.
        trained: whether it makes sense with a trained checkpoint only.
    """

    name: str
    task: str
    limit: float
    trained: bool = False


STAGES = (
    Stage("card", "benchmarks.gpu.card:run", 45),
    Stage("same", "benchmarks.gpu.same:run", 150),
    Stage("rates", "benchmarks.gpu.rates:run", 150),
    Stage("stress", "benchmarks.gpu.stress:run", 75),
    Stage("tests", "benchmarks.gpu.asserted:run", 90),
    Stage("moves", "benchmarks.gpu.moves:run", 90, trained=True),
    Stage("feed", "benchmarks.gpu.feed:run", 90),
    Stage("sweep", "benchmarks.gpu.sweep:run", 75),
    Stage("profile", "benchmarks.gpu.profile:run", 60),
    Stage("parts", "benchmarks.gpu.parts:run", 60),
)


@dataclass(frozen=True)
class Asked:
    """What all stages are told.

    Attributes:
        device: `cuda` or `cpu`.
        tiny: whether as little as possible is computed, to see that it runs.
        bring: folder made by `--pack`, if there is one.
        out: folder of the results.
        scratch: folder for what stages leave for those after them; it goes with the visit.
    """

    device: str
    tiny: bool
    bring: str | None
    out: str
    scratch: str

    @property
    def results(self) -> Path:
        """JSON lines, a row each."""
        return Path(self.out, "results.jsonl")

    @property
    def log(self) -> Path:
        return Path(self.out, "log.txt")
