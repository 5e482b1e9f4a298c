"""When a run is placed anew because its cluster has grown: seldom, and only if it gains by it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import Config
from pipeline.cluster import connection
from pipeline.cluster.placement import Node, Placement, place
from pipeline.driver import growth, watch
from pipeline.driver.growth import BUSY
from pipeline.driver.progress import Pace
from pipeline.driver.watch import Watch

HEAD: Node = {"CPU": 0, "memory": 2**34}
NODE: Node = {"CPU": 4, "GPU": 1, "memory": 2**34}
CONFIG = Config(input="i", output="o", device="cuda", replicas=64)


def placed(replicas: int, fetchers: int) -> Placement:
    return Placement("cuda", replicas, 1, 3.5, 0, 4, fetchers, 16, 4096)


@pytest.mark.parametrize(
    "replicas,fetchers,busy,saved",
    [
        (8, 2, 1.0, 0),
        (16, 4, 1.0, 300),
        (4, 8, 0.2, 0),  # to lose replicas for fetch actors is no gain
        (8, 3, 0.2, 0),
        (8, 4, 0.2, 300),
        (8, 8, 0.2, 450),
        (8, 8, 0.6, 240),  # networks that always have work are all that can be won
        (8, 8, BUSY, 0),
        (10, 8, 0.6, 240),
    ],
)
def test_what_is_saved(replicas: int, fetchers: int, busy: float, saved: float) -> None:
    pace = Pace(0, 1200, 2.0, busy=busy)
    found = growth.saved(placed(8, 2), placed(replicas, fetchers), pace)
    assert found == pytest.approx(saved)
    assert growth.saved(placed(8, 2), placed(replicas, fetchers), Pace(0, 1200, 0.0)) == 0


@pytest.mark.parametrize("busy,restarts", [(0.2, [2, 4, 8, 16]), (0.9, [])])
def test_nodes_that_an_autoscaler_adds(
    monkeypatch: pytest.MonkeyPatch, busy: float, restarts: list[int]
) -> None:
    """Each has room for a replica, and for one more actor of fetching and writing."""
    nodes = [HEAD, NODE]
    monkeypatch.setattr(watch, "ROOM_SECONDS", 0)
    monkeypatch.setattr(connection, "alive", lambda: nodes)
    reporter: Any = SimpleNamespace(pace=lambda sums: Pace(0, 10**6, 10.0, busy=busy))
    nothing: Any = None
    seen = Watch(nothing, CONFIG, place(CONFIG, nodes), reporter, nothing)
    seen.state.ready["detect"] = 1
    found = []
    for _ in range(64):
        for _ in range(3):
            if seen._has_room():
                seen.placed(connection.place(CONFIG))
                found.append(seen.placement.fetchers)
        nodes.append(NODE)
    assert found == restarts
    nodes[2:] = []  # as a node comes and goes, it is not there the second time
    seen.placed(place(CONFIG, nodes))
    for _ in range(9):
        assert not seen._has_room()
        nodes[2:] = [] if nodes[2:] else [NODE]
