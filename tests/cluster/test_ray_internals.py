"""What is used of Ray beside its public interface is there, on the Ray versions that are allowed.

It was last looked at on Ray 2.60; pyproject.toml allows up to, and not with, 2.64.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import re
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
import ray.data
from packaging.requirements import Requirement
from ray._private.log import PlainRayHandler

from pipeline.cluster import ray_internals
from pipeline.cluster.ray_internals import Execution

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
SEEN, LIMIT = "2.60", "2.64"


def required() -> Requirement:
    """What pyproject.toml says of Ray."""
    needs = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    (found,) = (need for need in map(Requirement, needs) if need.name == "ray")
    return found


def test_each_part_says_on_which_version_it_was_seen() -> None:
    """Whoever lets another version in has to look at each part again, and say so there."""
    bounds = {part.operator: part.version for part in required().specifier}
    assert bounds == {">=": SEEN, "<": LIMIT}
    parts = (Execution, Execution.drain, ray_internals.actor_state, ray_internals.silence_ray_data)
    for part in parts:
        assert re.findall(r"Seen on Ray ([\d.]+\d)", str(part.__doc__)) == [SEEN], part


def test_rays_version_is_one_that_is_allowed() -> None:
    assert required().specifier.contains(importlib.metadata.version("ray"))


def test_the_private_names_are_there() -> None:
    for name in ("_create_executor", "_build_bundle_iterator"):
        assert callable(getattr(ray.data.Dataset, name, None)), name
    for module, name in (("ray._private.state", "actors"), ("ray._private.log", "PlainRayHandler")):
        assert importlib.util.find_spec(module), module
        assert callable(getattr(importlib.import_module(module), name, None)), f"{module}.{name}"


@pytest.fixture
def numbers(cluster: None) -> ray.data.Dataset:
    """Four blocks of the numbers from 0 to 99."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.data.range(100, override_num_blocks=4)


def test_an_execution_yields_every_block(numbers: ray.data.Dataset) -> None:
    def doubled(batch: pa.Table) -> dict[str, Any]:
        return {"id": [2 * number for number in batch["id"].to_pylist()]}

    execution = Execution(numbers.map_batches(doubled, batch_format="pyarrow", batch_size=None))
    tables = [ray.get(block) for block in execution.blocks()]
    execution.end()
    found = [number for table in tables for number in table["id"].to_pylist()]
    assert sorted(found) == list(range(0, 200, 2))


def test_a_drained_execution_begins_nothing_more(numbers: ray.data.Dataset, tmp_path: Path) -> None:
    """And what has been done goes through the last stage."""
    begun = tmp_path / "begun"
    source = ray.data.from_items([{"id": number} for number in range(400)], override_num_blocks=400)
    options: dict[str, Any] = {
        "num_cpus": 0.5,
        "compute": ray.data.ActorPoolStrategy(size=1),
        "fn_constructor_args": [begun],
    }
    slow = source.map_batches(Slow, batch_size=1, **options)
    execution = Execution(slow.map_batches(Slow, batch_size=400, **options))

    def drain() -> None:
        while not begun.exists():
            time.sleep(0.1)
        execution.drain()

    threading.Thread(target=drain).start()
    (block,) = execution.blocks()
    execution.end()
    assert 1 <= len(ray.get(block)) < 200


class Slow:
    """A stage that takes its time, and leaves a file once it has begun."""

    def __init__(self, begun: Path) -> None:
        self.begun = begun

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.begun.touch()
        time.sleep(0.1)
        return batch


def test_another_thread_ends_an_execution_that_waits(numbers: ray.data.Dataset) -> None:
    def stuck(batch: pa.Table) -> pa.Table:
        time.sleep(600)
        return batch

    execution = Execution(numbers.map_batches(stuck, batch_format="pyarrow", batch_size=None))
    blocks: list[Any] = []
    waiting = threading.Thread(target=lambda: blocks.extend(execution.blocks()), daemon=True)
    waiting.start()
    waiting.join(timeout=3)
    assert waiting.is_alive()
    execution.end()
    waiting.join(timeout=30)
    assert not waiting.is_alive() and not blocks
    # its tasks end, too, and give their CPUs back
    cluster: Any = ray
    deadline = time.monotonic() + 60
    while cluster.available_resources().get("CPU") != cluster.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_state_of_an_actor(cluster: None) -> None:
    class Idle:
        def name(self) -> str:
            return str(ray.get_runtime_context().get_actor_id())

    actor: Any = ray.remote(num_cpus=0)(Idle).remote()
    name = ray.get(actor.name.remote())
    assert ray_internals.actor_state(name) == "ALIVE"
    ray.kill(actor)
    deadline = time.monotonic() + 30
    while ray_internals.actor_state(name) != "DEAD":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_ray_datas_lines_are_kept_from_the_terminal(cluster: None) -> None:
    ray_internals.silence_ray_data()
    handlers = logging.getLogger("ray.data").handlers
    plain = [handler for handler in handlers if isinstance(handler, PlainRayHandler)]
    assert plain and all(handler.level == logging.CRITICAL for handler in plain)


def test_one_line_is_kept_from_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="passes"), ray_internals._without_advice():
        os.write(2, b"before\n[E] Actor 1 " + ray_internals.ADVICE + b" and restarts\nbehind\n")
        raise ValueError("passes")
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "before\nbehind\nlater\n"
