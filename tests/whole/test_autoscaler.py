"""Runs on a cluster that begins without a GPU, and whose autoscaler brings them."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest

from tests.support import tiles
from tests.support.autoscaled import autoscaled
from tests.support.chaos import Driver

IMAGES = 240


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of drivers with slow engines, on a cluster of their own."""
    folder = tmp_path / "engines"
    folder.mkdir()
    monkeypatch.setenv("ENGINE_LOG", str(folder))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))


@pytest.mark.soak
def test_from_none_to_fewer_than_the_run_asks_for(tmp_path: Path) -> None:
    """It begins with the first GPU; a third one never comes."""
    images, output = tiles.write(tmp_path / "images", range(IMAGES)), str(tmp_path / "out")
    with autoscaled(tmp_path, most=2) as cluster:
        driver = Driver(
            cluster, images, output, tmp_path / "log", "--device", "cuda", "--replicas", "3"
        )
        assert driver.end(280) == 0, driver.said()
    tiles.check_complete(output, IMAGES)
    said = driver.log.read_text()
    assert "waiting for an autoscaler to add the first of 3" in said
    assert "wait for an autoscaler to add GPUs" in said


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_gpus_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one replica still has an image in work, the nodes of the others go."""
    count = 2 * IMAGES
    monkeypatch.setenv("ENGINE_SLOW", str(count - 1))
    images, output = tiles.write(tmp_path / "images", range(count)), str(tmp_path / "out")
    with autoscaled(tmp_path, most=3, idle_seconds=5) as cluster:
        driver = Driver(
            cluster, images, output, tmp_path / "log", "--device", "cuda", "--replicas", "3"
        )
        began, numbers = time.monotonic(), [0]
        while driver.running:
            nodes = cluster.nodes()
            if nodes != numbers[-1]:
                numbers.append(nodes)
                print(f"\n{time.monotonic() - began:.0f} s: {nodes} nodes", end="")
            time.sleep(0.5)
        assert driver.end() == 0, driver.said()
    tiles.check_complete(output, count)
    # where nodes start slowly, Ray's autoscaler starts more than it may, and ends them again
    assert max(numbers) >= 3 and numbers[-1] < 3
