"""When a run is ended from outside, and what is said of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray

from pipeline.cluster import connection
from pipeline.cluster.client import Client
from pipeline.cluster.coordinator import coordinating
from pipeline.cluster.placement import Placement
from pipeline.cluster.ray_internals import Execution
from pipeline.config import Config
from pipeline.driver import waiting, watch
from pipeline.driver.metrics import Metrics
from pipeline.driver.progress import Reporter
from pipeline.driver.watch import Watch
from pipeline.errors import RunError


class Endless(Execution):
    """An execution of nothing: notes when it is told to end."""

    def __init__(self) -> None:
        self.ended = 0.0
        self.drained = False

    def drain(self) -> None:
        self.drained = True

    def end(self) -> None:
        self.ended = self.ended or time.monotonic()


class Idle:
    """An actor that does nothing."""

    def answer(self) -> None: ...


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.05)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT does what it does in a terminal; a shell that starts this with `&` has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def coordinator(cluster: None) -> Iterator[Any]:
    with coordinating() as actor:
        yield actor


def watching(coordinator: Any, **options: Any) -> Watch:
    short = {"stall_timeout": 0.5, "fetch_timeout": 0.1, "decode_timeout": 0.1} | options
    config = Config(input="i", output="o", **short)
    placement = Placement("cpu", 2, 0, 1, 0, 1, 1, 1, 64)
    return Watch(coordinator, config, placement, Reporter(9000, 0), uncounted())


def uncounted() -> Metrics:
    return Metrics("a-run", 1, lambda progress: None)


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "stages,text",
    [
        ([], "detect waits for room on the cluster: none of its 2 replicas has started"),
        (["detect"], "detect waits for the decoding or the forward of 3 images"),
        (["fetch"], "fetch waits for the store to deliver some of 3 images"),
        (["fetch", "detect", "write"], "write waits for the store of /"),
    ],
)
def test_a_run_that_stands_still_is_ended(coordinator: Any, stages: list[str], text: str) -> None:
    if stages:
        ray.get(coordinator.ready.remote("detect", "actor"))
    for stage in stages:
        Client(coordinator, stage).begin([1, 2, 3])
    execution = Endless()
    with watching(coordinator) as seen:
        with seen.over(execution):
            wait_for(lambda: execution.ended)
        with pytest.raises(RunError, match=r"nothing has moved for 0.5 s \(stall_timeout\)") as e:
            seen.check()
    assert text in str(e.value)


def test_a_run_without_room_says_so_once(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another job may hold the cluster; until `stall_timeout` nothing else would tell."""
    monkeypatch.setattr(watch, "HINT_SECONDS", 0.2)
    with watching(coordinator, stall_timeout=100) as seen, seen.over(Endless()):
        wait_for(lambda: "other work holds the 1 CPUs that each needs (" in caplog.text)
        time.sleep(0.5)
    assert caplog.text.count("are free); `ray status` and `ray job list`") == 1


def test_a_run_whose_network_loads_needs_no_room(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "HINT_SECONDS", 0.2)
    ray.get(coordinator.join.remote(None, "detect", "actor", "node"))
    with watching(coordinator, stall_timeout=100) as seen, seen.over(Endless()):
        wait_for(lambda: seen.hinted)
    assert waiting.starting(seen.state) == "loading the network" and not caplog.text


def test_a_run_that_moves_goes_on(coordinator: Any) -> None:
    execution, client = Endless(), Client(coordinator, "fetch")
    with watching(coordinator) as seen, seen.over(execution):
        for _ in range(10):
            client.add(reads=1)
            client.flush()
            time.sleep(0.1)
        assert not execution.ended
        seen.check()


def test_too_many_errors(coordinator: Any) -> None:
    client = Client(coordinator, "detect")
    with watching(coordinator, grace=0.1, stall_timeout=100) as seen:
        execution = Endless()
        with seen.over(execution):
            client.add(images=999, errors=900)
            client.flush()
            time.sleep(0.5)
            seen.check()
            for number in range(100):
                client.failed("forbidden", f"s3://b/{number}")
            client.add(images=1, errors=100)
            client.flush()
            wait_for(lambda: execution.ended)
        with pytest.raises(RunError) as e:
            seen.check()
    assert str(e.value) == (
        "1,000 of the first 1,000 images failed, more than max_error_rate (0.05) allows; the most "
        "common error is forbidden (100), for instance s3://b/0, s3://b/1, s3://b/2"
    )


def test_a_retry_of_failures_may_fail_again(coordinator: Any) -> None:
    options: dict[str, Any] = {"input": "/o/detections/status=error", "output": "/o"}
    config = Config(**options, stall_timeout=700)
    placement = Placement("cpu", 1, 0, 1, 0, 1, 1, 1, 64)
    seen = Watch(coordinator, config, placement, Reporter(1, 0), uncounted())
    seen.state.sums.update(images=2000, errors=2000)
    assert not seen._too_many_errors()


def test_what_a_process_says_ends_the_run(coordinator: Any) -> None:
    execution = Endless()
    with watching(coordinator, grace=0.1, stall_timeout=100) as seen:
        with seen.over(execution):
            Client(coordinator, "fetch").fail("the store refuses the credentials: expired")
            wait_for(lambda: execution.ended)
        with pytest.raises(RunError, match="refuses the credentials"):
            seen.check()


def test_between_two_executions(coordinator: Any) -> None:
    """As large images are planned or put together, no execution is there to be judged."""
    with watching(coordinator, stall_timeout=100) as seen:
        seen.check()
        Client(coordinator, "driver").fail("the store refuses the credentials: expired")
        with pytest.raises(RunError, match="refuses the credentials"):
            seen.check()


@pytest.mark.usefixtures("interruptible")
def test_a_signal_lets_what_is_in_flight_finish(coordinator: Any) -> None:
    execution, client = Endless(), Client(coordinator, "fetch")
    started = time.monotonic()
    with watching(coordinator, grace=1, stall_timeout=100) as seen:
        with seen.over(execution):
            os.kill(os.getpid(), signal.SIGINT)
            wait_for(lambda: client.begin([1]) is None)
            wait_for(lambda: execution.drained)
            wait_for(lambda: execution.ended)
        assert execution.ended - started >= 1
        with pytest.raises(KeyboardInterrupt):
            seen.check()
        with pytest.raises(KeyboardInterrupt):  # the second one does not wait
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("replicas,images", [(2, 100), (4, 8999), (4, 100)])
def test_a_cluster_that_grows(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch, replicas: int, images: int
) -> None:
    """The execution ends by itself, if more replicas would save more than their start takes."""
    monkeypatch.setattr(watch, "ROOM_SECONDS", 0.1)
    place = Placement("cpu", replicas, 0, 1, 0, 1, 1, 1, 64)
    monkeypatch.setattr(connection, "place", lambda config: place)
    for actor in ("first", "second", "third"):
        ray.get(coordinator.join.remote(None, "detect", actor, "node"))
    for actor in ("first", "second"):
        ray.get(coordinator.ready.remote("detect", actor))
    client = Client(coordinator, "detect")
    client.add(images=images)
    client.flush()
    with watching(coordinator, stall_timeout=100, grace=100) as seen:
        seen.reporter.changes.append((time.monotonic() - 10, 0, 0.0, 1))
        with seen.over(Endless()):
            if (replicas, images) == (4, 100):
                wait_for(lambda: client.begin([1]) is None)
                assert seen.grown
                seen.check()
            else:
                time.sleep(1)
                assert not seen.grown
        assert seen.reporter.replicas == 2  # the third one has not started yet
        if seen.grown:
            seen.placed(place)
            assert client.begin([1]) is not None and seen.stopping is None


@pytest.mark.parametrize(
    "gone,ended,lost", [(False, False, False), (True, True, False), (True, False, True)]
)
def test_nodes_that_are_gone(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch, gone: bool, ended: bool, lost: bool
) -> None:
    """Are a loss to actors that have not done their work."""
    monkeypatch.setattr(watch, "LOST_SECONDS", 0.2)
    worker: Any = ray.remote(num_cpus=0)(Idle).remote()
    actor = worker._actor_id.hex()
    ray.get(worker.answer.remote())
    node = "gone" if gone else ray.get_runtime_context().get_node_id()
    coordinator.join.remote(None, "detect", actor, node)
    if ended:
        ray.kill(worker)
    execution = Endless()
    with watching(coordinator, stall_timeout=100) as seen, seen.over(execution):
        if lost:
            wait_for(lambda: execution.ended)
        else:
            time.sleep(1)
    seen.check()
    assert seen.lost is lost and bool(execution.ended) is lost
