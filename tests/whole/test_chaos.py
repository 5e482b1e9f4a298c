"""Kills of everything on a cluster of several nodes: nothing lost, nothing twice, no hang."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import outputs, tiles
from tests.support.chaos import Driver, Nodes, Siege, seen
from tests.support.faulty import Proxy

pytestmark = pytest.mark.alone

IMAGES = 480
KILLS = 20


@pytest.fixture(scope="module")
def nodes(proxy: Proxy) -> Iterator[Nodes]:
    nodes = Nodes(2)
    yield nodes
    nodes.shutdown()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell has what it starts in the background ignore SIGINT, and its children with it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def wait_until_seen(driver: Driver, folder: Path, images: int) -> None:
    """Return when engines were given so many images, or the run has ended."""
    deadline = time.monotonic() + 200
    while driver.running and len(seen(folder)) < images:
        assert time.monotonic() < deadline, driver.said()
        time.sleep(0.1)


def besiege(
    nodes: Nodes,
    proxy: Proxy,
    bucket: str,
    log: Path,
    kinds: tuple[str, ...],
    images: int = IMAGES,
    **options: Any,
) -> None:
    """Runs under kills until there were enough of them; prints a line for each run."""
    input, total, seed = f"s3://{bucket}/images/", Counter[str](), 0
    while total.total() < KILLS:
        output, began = f"s3://{bucket}/out-{seed}", time.monotonic()
        most = min(options.get("most", KILLS), KILLS - total.total())
        siege = Siege(nodes, proxy, input, output, log, kinds, seed, **options | {"most": most})
        try:
            siege.run()
        finally:
            proxy.faults = []
        tiles.check_complete(output, images)
        total += siege.kills
        seed += 1
        kills = ", ".join(f"{kind} {count}" for kind, count in siege.kills.items()) or "none"
        print(
            f"\n{'+'.join(kinds):15} kills at work: {kills:20} {images} images, each once, "
            f"{time.monotonic() - began:.0f} s",
            end="",
        )
        assert seed < 3 * KILLS, "the runs end before they can be hit"


def test_a_replica_and_a_node_die(
    nodes: Nodes, proxy: Proxy, s3: Any, bucket: str, tmp_path: Path, engine_log: Path
) -> None:
    """One after the other in one run; another node takes the place of the one that died.

    Some images are larger than a tile of the run, and still of one box.
    """
    images, larger = IMAGES // 2, range(0, IMAGES // 2, 20)
    tiles.upload(s3, bucket, range(images))
    for number in larger:
        body = tiles.tile(number, 48)
        s3.put_object(Bucket=bucket, Key=f"images/{tiles.name(number)}", Body=body)
    output = f"s3://{bucket}/out"
    driver = Driver(nodes, f"s3://{bucket}/images/", output, tmp_path / "log", "--tile", "32")
    wait_until_seen(driver, engine_log, 40)
    assert driver.running, driver.said()
    os.kill(nodes.processes("replica")[0], signal.SIGKILL)
    time.sleep(1)
    nodes.kill(nodes.workers[0])
    nodes.add()
    assert driver.running, "the run ended before it could be hit"
    assert driver.end() == 0, driver.said()
    replaced = {number: (number, 48) for number in larger}
    found = tiles.check_complete(output, images, replaced=replaced)
    assert {row["num_detections"] for row in found} == {1}
    views = [number for _, _, number in seen(engine_log)]
    assert all(views.count(number) >= 5 for number in larger)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "kinds",
    [
        ("driver",),
        ("replica",),
        ("fetch",),
        ("writer",),
        ("node",),
        ("replica", "node"),
        ("driver", "store"),
    ],
    ids="-".join,
)
def test_twenty_kills(
    nodes: Nodes,
    proxy: Proxy,
    s3: Any,
    bucket: str,
    tmp_path: Path,
    engine_log: Path,
    kinds: tuple[str, ...],
) -> None:
    tiles.upload(s3, bucket, range(IMAGES))
    besiege(nodes, proxy, bucket, tmp_path / "log", kinds, most=10)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_store_is_down_for_a_minute(
    nodes: Nodes, proxy: Proxy, s3: Any, bucket: str, tmp_path: Path, engine_log: Path
) -> None:
    images = 3 * IMAGES  # a run of several outages
    tiles.upload(s3, bucket, range(images))
    # writes try for four minutes, and must not always meet the next outage
    away: dict[str, Any] = {"outage": 60.0, "pause": (15.0, 40.0), "most": 5}
    besiege(nodes, proxy, bucket, tmp_path / "log", ("store",), images, **away)


@pytest.mark.soak
@pytest.mark.parametrize(
    "number,code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_to_the_driver(
    nodes: Nodes,
    s3: Any,
    bucket: str,
    tmp_path: Path,
    engine_log: Path,
    interruptible: None,
    number: int,
    code: int,
) -> None:
    """What an engine has seen is committed; the same command does the rest, and no more."""
    images = IMAGES // 2
    tiles.upload(s3, bucket, range(images))
    input, output, log = f"s3://{bucket}/images/", f"s3://{bucket}/out", tmp_path / "log"
    driver = Driver(nodes, input, output, log, "--grace", "60")
    wait_until_seen(driver, engine_log, 40)
    driver.process.send_signal(number)
    assert driver.end() == code, driver.said()
    said = driver.said()
    kept = tiles.check_partial(output)
    assert kept == {tile for _, _, tile in seen(engine_log)} and len(kept) < images
    assert "_run/lease.json" not in outputs.files(output)
    assert Driver(nodes, input, output, log).end() == 0, driver.said()
    tiles.check_complete(output, images)
    assert len(seen(engine_log)) == images
    assert "the same command continues" in said and "Traceback" not in said
