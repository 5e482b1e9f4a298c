"""CPU time and peak memory of each kind of process of a Ray cluster that this process started."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 2**20


@dataclass
class Usage:
    """Of one process, as last seen.

    Attributes:
        kind: `driver`, `raylet`, `gcs`, or the stage of a worker.
        cpu_seconds: since its start.
        peak: bytes of resident memory at most, pages of the object store included.
        peak_own: bytes of that which are the process's alone, at most; sampled.
    """

    kind: str
    cpu_seconds: float = 0.0
    peak: int = 0
    peak_own: int = 0


class Sampler:
    """Watches this process and all that descend from it while in a `with` block.

    Attributes:
        interval: seconds between samples.
        seen: by process id, those that have ended included.
        store_peak: bytes in use in the object stores of all nodes, at most.
        spilled: bytes that they have spilled.
        own: `time.time` and bytes of this process's own memory, of each sample.
    """

    def __init__(self, interval: float = 0.5) -> None:
        self.interval = interval
        self.seen: dict[int, Usage] = {}
        self.store_peak = self.spilled = 0
        self.own: list[tuple[float, int]] = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopped.set()
        self.thread.join()
        self.sample()

    def _run(self) -> None:
        while not self.stopped.wait(self.interval):
            self.sample()

    def sample(self) -> None:
        for pid in descendants(os.getpid()):
            try:
                kind, cpu = _kind(pid), cpu_seconds(pid)
                status = read_status(pid)
            except OSError:  # it has ended
                continue
            usage = self.seen.setdefault(pid, Usage(kind))
            # a worker is named after its task, between tasks and at its end not at all
            if kind not in ("idle", ""):
                usage.kind = kind
            usage.cpu_seconds = cpu
            usage.peak = max(usage.peak, status.get("VmHWM", 0))
            usage.peak_own = max(usage.peak_own, status.get("RssAnon", 0))
            if pid == os.getpid():
                self.own.append((time.time(), status["RssAnon"]))
        used, spilled = object_store()
        self.store_peak, self.spilled = max(self.store_peak, used), max(self.spilled, spilled)

    def cpu(self) -> dict[str, float]:
        """Kind of process to the CPU seconds of all of that kind."""
        sums: defaultdict[str, float] = defaultdict(float)
        for usage in list(self.seen.values()):
            sums[usage.kind] += usage.cpu_seconds
        return {kind: round(seconds, 2) for kind, seconds in sorted(sums.items())}

    def memory(self) -> dict[str, dict[str, int]]:
        """Kind of process to number of processes, and the largest one's MiB."""
        kinds: defaultdict[str, list[Usage]] = defaultdict(list)
        for usage in list(self.seen.values()):
            kinds[usage.kind].append(usage)
        return {
            kind: {
                "processes": len(usages),
                "peak_mib": max(u.peak for u in usages) // MIB,
                "peak_own_mib": max(u.peak_own for u in usages) // MIB,
            }
            for kind, usages in sorted(kinds.items())
        }


def cpu_by_kind() -> dict[str, float]:
    """Kind of process to CPU seconds since the start of each of these processes."""
    sampler = Sampler()
    sampler.sample()
    return sampler.cpu()


def object_store() -> tuple[int, int]:
    """Bytes in use on all nodes now, and bytes spilled so far; zeros without a cluster.

    All that the benchmarks use of Ray beside its public interface; seen on Ray 2.60. When
    `internal_api` is gone, read what `ray memory --stats-only` prints, which are these sums.
    """
    import ray
    from ray._private import internal_api

    api: Any = internal_api  # without types
    if not ray.is_initialized():
        return 0, 0
    try:
        address = ray.get_runtime_context().gcs_address
        state = api.get_state_from_address(address)
        stats = api.get_memory_info_reply(state).store_stats
    except Exception:  # the cluster is going down
        return 0, 0
    return int(stats.object_store_bytes_used), int(stats.spilled_bytes_total)


def descendants(pid: int) -> Iterator[int]:
    """A process and all that it, or one of them, started."""
    yield pid
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                for child in file.read().split():
                    yield from descendants(int(child))
    except OSError:
        return


def cpu_seconds(pid: int | str = "self") -> float:
    """That a process has used since its start, in all of its threads."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def read_status(pid: int | str = "self") -> dict[str, int]:
    """Bytes of each memory figure: `VmHWM`, `VmRSS`, `RssAnon` and so on."""
    with open(f"/proc/{pid}/status") as file:
        lines = (line.split() for line in file)
        return {words[0][:-1]: int(words[1]) * 1024 for words in lines if words[-1] == "kB"}


def reset_peak() -> None:
    """Let this process's `VmHWM` begin anew."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _kind(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline") as file:
        command = file.read().replace("\0", " ").strip()
    if pid == os.getpid():
        return "driver"
    if not command:
        return ""
    if command.startswith("ray::"):
        stage = re.search(r"MapBatches\((\w+)\)", command)
        name = stage.group(1) if stage else command[5:].split("(")[0].split(".")[0]
        return "idle" if name.startswith("IDLE") else name
    for part in ("raylet", "gcs_server"):
        if f"/{part}" in command.split(" ")[0]:
            return part
    return "ray, other" if "ray" in command else "other"


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of one set of keys as a Markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    for row in rows:
        lines.append(
            "| "
            + " | ".join(
                f"{value:,}" if isinstance(value, int) else f"{value}" for value in row.values()
            )
            + " |"
        )
    return "\n".join(lines)
