"""Killers, and a Ray cluster of several nodes on this machine for them."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import _raylet
from ray._common.utils import reset_ray_address
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from tests.support import outputs
from tests.support.faulty import LATE, Fault, Proxy

# what can be killed, and how the titles of its processes look
STAGES = {"fetch": "Fetch", "replica": "Detector", "writer": "Writer"}


def tree(roots: Iterable[int]) -> dict[int, str]:
    """The processes below some, with their titles."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = {}, list(roots)
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            found[pid] = title.decode(errors="replace").strip()
    return found


def kill(root: int) -> None:
    """End a process and all below it, at once."""
    for pid in tree([root]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def processes(stage: str, among: dict[int, str]) -> list[int]:
    """Those that Ray Data uses for a stage at this moment."""
    return sorted(pid for pid, title in among.items() if re.match(rf"ray::.*{stage}", title))


class Nodes:
    """A head without GPU, and nodes with logical GPUs, each a raylet with workers of its own.

    Their environment is that of this process at their start.
    """

    def __init__(self, count: int, gpus: int = 1) -> None:
        self.gpus = gpus
        head = {"num_cpus": 2, "num_gpus": 0, "include_dashboard": False}
        self.cluster: Any = Cluster(initialize_head=True, connect=False, head_node_args=head)
        reset_ray_address()  # else every ray.init() on this machine would join
        for _ in range(count):
            self.add()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    @property
    def workers(self) -> list[Any]:
        return sorted(self.cluster.worker_nodes, key=lambda node: str(node.node_id))

    def add(self) -> None:
        self.cluster.add_node(num_cpus=2, num_gpus=self.gpus)

    def kill(self, node: Any) -> None:
        self.cluster.remove_node(node, allow_graceful=False)

    def drain(self, node: Any, seconds: float) -> None:
        """Tell Ray that a node will be taken away, as a cloud does with a spot instance."""
        untyped: Any = _raylet, autoscaler_pb2
        raylet, messages = untyped
        accepted, why = raylet.GcsClient(address=self.address).drain_node(
            node.node_id,
            messages.DRAIN_NODE_REASON_PREEMPTION,
            "to be taken away",
            int((time.time() + seconds) * 1000),
        )
        assert accepted, why

    def processes(self, stage: str) -> list[int]:
        nodes = self.cluster.list_all_nodes()
        raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
        return processes(STAGES[stage], tree(raylets))

    def table(self) -> list[dict[str, Any]]:
        """What `ray.nodes()` gives on it, of nodes that are alive."""
        table: list[dict[str, Any]] = self.cluster.global_state.node_table()
        return [node for node in table if node["Alive"]]

    def shutdown(self) -> None:
        self.cluster.shutdown()


class Driver:
    """`tests.support.kill_target` as a process; what it says goes to a file."""

    def __init__(self, cluster: Any, input: str, output: str, log: Path, *flags: str) -> None:
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.kill_target", input, output, *flags],
                stdout=file,
                stderr=file,
                env=os.environ | {"RAY_ADDRESS": cluster.address},
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait_until_at_work(self, output: str, more_than: int = 0) -> None:
        """Return when it has committed more than some files, or has ended."""
        deadline = time.monotonic() + 300
        while self.running and outputs.committed(output) <= more_than:
            assert time.monotonic() < deadline, f"nothing is committed: {self.said()}"
            time.sleep(0.1)

    def end(self, seconds: float = 600) -> int:
        """Its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the run did not end by itself: {self.said()}") from None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


@dataclass
class Siege:
    """One run, started again after each kill of its driver, under kills until it is complete.

    Attributes:
        kinds: `driver`, `fetch`, `replica`, `writer`, `node`, `store`.
        pause: seconds between kills, at random between the two.
        most: kills altogether; the run then ends in peace.
        outage: seconds for which `store` is down.
        flags: more ones of the command.
        kills: number of kills by kind that hit the run at work.
    """

    nodes: Nodes
    proxy: Proxy
    input: str
    output: str
    log: Path
    kinds: tuple[str, ...]
    seed: int
    pause: tuple[float, float] = (1.0, 5.0)
    most: int = 20
    outage: float = 10.0
    flags: tuple[str, ...] = ()
    kills: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        moment = random.Random(self.seed)
        # so that fetching, too, takes as long as the run
        self.proxy.faults = [Fault(LATE, path="/images/")]
        driver = self._start()
        driver.wait_until_at_work(self.output)
        while driver.running and self.kills.total() < self.most:
            time.sleep(moment.uniform(*self.pause))
            kind = moment.choice(self.kinds)
            if kind == "driver":
                driver = self._kill_driver(driver)
            elif self._kill(kind, moment, driver):
                self.kills[kind] += 1
        assert driver.end() == 0, driver.said()

    def _start(self) -> Driver:
        return Driver(self.nodes, self.input, self.output, self.log, *self.flags)

    def _kill_driver(self, driver: Driver) -> Driver:
        self.kills["driver"] += driver.running
        driver.kill()
        before = outputs.committed(self.output)
        driver = self._start()
        driver.wait_until_at_work(self.output, before)
        return driver

    def _kill(self, kind: str, moment: random.Random, driver: Driver) -> bool:
        """Kill something; returns whether that hit a run at work."""
        if kind == "node":
            at_work = driver.running
            self.nodes.kill(moment.choice(self.nodes.workers))
            time.sleep(moment.uniform(0, 5))
            self.nodes.add()
            return at_work
        if kind == "store":
            at_work = driver.running
            with self.proxy.down():
                time.sleep(self.outage)
            return at_work
        while driver.running:  # until there is one; write workers come and go
            found = self.nodes.processes(kind)
            if found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(moment.choice(found), signal.SIGKILL)
                    return driver.running
            time.sleep(0.02)
        return False


def seen(folder: Path) -> list[tuple[float, str, int]]:
    """Time, node and tile of each image that an engine was given."""
    lines = (line.split() for file in folder.iterdir() for line in file.read_text().splitlines())
    return sorted((float(time), node, int(number)) for time, node, number in lines)
