"""What the processes of a run tell each other, over a real Ray cluster."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from pipeline.cluster.client import SEND_SECONDS, Client
from pipeline.cluster.coordinator import EXAMPLE_URIS, START_DEATHS, Coordinator, coordinating


@pytest.fixture
def coordinator(cluster: None) -> Iterator[Any]:
    with coordinating() as actor:
        yield actor


def test_sums_of_several_processes(coordinator: Any) -> None:
    for client in (Client(coordinator, "fetch"), Client(coordinator, "detect")):
        client = pickle.loads(pickle.dumps(client))
        for number in range(100):
            client.add(images=1, seconds_fetch=0.5)
            client.failed("not_found", f"s3://b/{number}")
        client.flush()
    state = ray.get(coordinator.get.remote())
    assert state.sums == {"images": 200, "seconds_fetch": 100}
    assert state.codes == {"not_found": 200}
    assert state.examples == {"not_found": [f"s3://b/{n}" for n in range(EXAMPLE_URIS)]}
    assert state.moves > 0


def test_the_word_to_stop_reaches_everybody(coordinator: Any) -> None:
    early, late = Client(coordinator, "fetch"), Client(coordinator, "fetch")
    assert early.begin([1, 2])
    ray.get(coordinator.stop.remote())
    assert late.begin([3]) is None and late.stopping
    assert not early.told
    for _ in range(2):  # by the answer to what it sends
        early.add(images=1)
        early.flush()
        time.sleep(0.2)
    assert early.told
    asking = Client(coordinator, "detect")
    assert not asking.stopping
    asking.asked -= SEND_SECONDS  # by asking, now and then
    assert asking.stopping


def test_a_batch_whose_process_died_is_suspicious(coordinator: Any) -> None:
    client = Client(coordinator, "detect")
    assert not client.begin([1, 2]).suspicious  # type: ignore[union-attr]
    assert Client(coordinator, "detect").begin([1, 2]).suspicious  # type: ignore[union-attr]
    assert not Client(coordinator, "fetch").begin([1, 2]).suspicious  # type: ignore[union-attr]
    assert ray.get(coordinator.get.remote()).held == {"detect": 2, "fetch": 2}
    client.end([1, 2])
    assert ray.get(coordinator.get.remote()).held == {"detect": 0, "fetch": 2}


def test_an_actor_that_dies_at_every_start_ends_the_run() -> None:
    coordinator = Coordinator()
    for _ in range(START_DEATHS):
        coordinator.join(None, "detect", "actor", "node")
    assert not coordinator.state.failure and coordinator.state.starts["detect"] == 1
    coordinator.ready("detect", "actor")
    for _ in range(START_DEATHS):
        coordinator.join(None, "detect", "actor", "node")
    assert not coordinator.state.failure
    coordinator.join(None, "detect", "actor", "node")
    assert "died in each of" in str(coordinator.state.failure) and coordinator.stopping


def test_a_coordinator_that_was_killed_comes_back(coordinator: Any) -> None:
    client = Client(coordinator, "detect")
    client.begin([1])
    ray.kill(coordinator, no_restart=False)
    while ray.get(coordinator.get.remote()).held:  # not yet
        time.sleep(0.1)
    assert not client.begin([1]).suspicious  # type: ignore[union-attr]
    client.end([1, 2])
    client.add(images=1)
    client.flush()
    assert ray.get(coordinator.get.remote()).held == {"detect": 0}
