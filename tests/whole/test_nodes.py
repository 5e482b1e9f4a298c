"""Clusters whose nodes come and go under a run: every image is done, and none twice for it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiles
from tests.support.chaos import Driver, Nodes, seen
from tests.support.faulty import Proxy
from tests.support.scraping import scraped

IMAGES = 480


def last_on(node_id: str, folder: Path) -> float:
    """When a node's engines were last given an image."""
    return max((moment for moment, node, _ in seen(folder) if node == node_id), default=0.0)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_a_node_is_gone_for_good(
    proxy: Proxy, s3: Any, bucket: str, tmp_path: Path, engine_log: Path, seed: int
) -> None:
    """The rest of the cluster does the rest of the work."""
    tiles.upload(s3, bucket, range(IMAGES))
    nodes = Nodes(2)
    try:
        output = f"s3://{bucket}/out"
        driver = Driver(nodes, f"s3://{bucket}/images/", output, tmp_path / "log")
        driver.wait_until_at_work(output)
        time.sleep(seed)
        nodes.kill(nodes.workers[seed % 2])
        assert driver.running, "the run ended before it could be hit"
        assert driver.end() == 0, driver.said()
        tiles.check_complete(output, IMAGES)
    finally:
        nodes.shutdown()


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_node_comes(proxy: Proxy, s3: Any, bucket: str, tmp_path: Path, engine_log: Path) -> None:
    """A run takes it, once that is worth a new start; nothing is done twice for it."""
    count = 10 * IMAGES
    images = tiles.write(tmp_path / "images", range(count))
    nodes = Nodes(1)
    try:
        output, began = f"s3://{bucket}/out", time.monotonic()
        driver = Driver(nodes, images, output, tmp_path / "log")
        driver.wait_until_at_work(output)
        nodes.add()
        assert driver.end() == 0, driver.said()
        tiles.check_complete(output, count)
        by_node = Counter(node for _, node, _ in seen(engine_log))
        print(
            f"\n{count} images in {time.monotonic() - began:.0f} s, by node "
            f"{sorted(by_node.values())}; {count * 0.05:.0f} s of forward"
        )
        assert len(by_node) == 2 and by_node.total() == count
        assert (
            "the cluster has grown; continuing with 2 replicas"
            in tmp_path.joinpath("log").read_text()
        )
    finally:
        nodes.shutdown()


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_three_nodes(proxy: Proxy, s3: Any, bucket: str, tmp_path: Path, engine_log: Path) -> None:
    """Of two GPUs each, for a run that wants eight: a fourth one comes, and one is killed."""
    count = 10 * IMAGES
    images = tiles.write(tmp_path / "images", range(count))
    nodes = Nodes(3, gpus=2)
    try:
        output = f"s3://{bucket}/out"
        driver = Driver(nodes, images, output, tmp_path / "log", "--replicas", "8")
        driver.wait_until_at_work(output)
        first = nodes.workers[0]
        nodes.add()
        while driver.running and len(seen(engine_log)) < count // 2:
            time.sleep(0.5)
        assert driver.running, driver.said()
        nodes.kill(first)
        told: dict[tuple[str, str], float] = {}
        while driver.running:
            with contextlib.suppress(OSError):  # the killed node's port
                told |= {key[::2]: value for key, value in scraped(nodes.table()).items()}
            time.sleep(2)
        assert driver.end() == 0, driver.said()
        tiles.check_complete(output, count)
        by_node = Counter(node for _, node, _ in seen(engine_log))
        print(
            f"\n{count} images, each once; {by_node.total()} forwards, by node "
            f"{sorted(by_node.values())}"
        )
        print("\n".join(f"{' '.join(key)} {value:g}" for key, value in sorted(told.items())))
        print(driver.said())
        assert len(by_node) == 4 and "images_total" in {name for name, _ in told}
    finally:
        nodes.shutdown()


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_node_drains(
    proxy: Proxy, s3: Any, bucket: str, tmp_path: Path, engine_log: Path
) -> None:
    """It soon gets no more work, and what it had is done elsewhere when it is taken away.

    A replica has up to four batches of 64 images waiting, which take 13 s.
    """
    count = 3 * IMAGES
    tiles.upload(s3, bucket, range(count))
    nodes = Nodes(2)
    try:
        output = f"s3://{bucket}/out"
        driver = Driver(nodes, f"s3://{bucket}/images/", output, tmp_path / "log")
        driver.wait_until_at_work(output)
        leaving = nodes.workers[0]
        last = ready = time.time()
        while driver.running and last <= ready:  # until it is seen at work
            last = last_on(leaving.node_id, engine_log)
            time.sleep(0.1)
        began = time.time()
        nodes.drain(leaving, 60)
        time.sleep(25)
        last = last_on(leaving.node_id, engine_log)
        print(f"\nlast image on the draining node {last - began:.1f} s after the notice")
        before = seen(engine_log)
        time.sleep(3)
        after = seen(engine_log)[len(before) :]
        nodes.kill(leaving)
        assert after, "the run ended before it could be looked at"
        assert leaving.node_id not in {node for _, node, _ in after}
        assert driver.end() == 0, driver.said()
        tiles.check_complete(output, count)
    finally:
        nodes.shutdown()
