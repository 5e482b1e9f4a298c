"""The programs that measure scale, each at a size that says nothing but that it works."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.soak
PROGRAMS = {
    "scale": ["benchmarks.scale", "--rows", "3000"],
    "resume": ["benchmarks.scale", "--resume", "--rows", "20000"],
    "scaling": ["benchmarks.scaling", "--replicas", "2", "--seconds", "1"],
    "memory": ["benchmarks.memory", "--small", "2", "--large", "1"],
}
# a worker that has imported torch has 400 MiB and more of its own
WITHOUT_TORCH_MIB = 250


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[Any]]:
    """All programs, two at a time, for they mostly wait; each one's figures."""
    folder = tmp_path_factory.mktemp("figures")
    threads = ThreadPoolExecutor(2)
    return {name: threads.submit(run, name, folder / f"{name}.json") for name in PROGRAMS}


def run(name: str, path: Path) -> Any:
    command = [sys.executable, "-m", *PROGRAMS[name], "--json", str(path)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout
    assert "| --- |" in done.stdout
    return json.loads(path.read_text())


def test_scale_runs_the_real_pipeline_without_torch_in_its_stages(
    started: dict[str, Future[Any]],
) -> None:
    (found,) = started["scale"].result()
    assert found["rows"] == 3000
    assert found["files"] >= 1
    assert found["spilled MiB"] == 0
    assert len(found["driver heap MiB after each slice"]) == 1
    assert found["seconds of execution"] < found["seconds"]
    # 10 boxes of 16 bytes of coordinates cannot be had for less
    assert found["bytes an image in files"] > 100
    assert found["cpu"]["driver"] > 0
    for stage in ("NullFetch", "NullReplica", "Writer"):
        assert found["memory"][stage]["peak_own_mib"] < WITHOUT_TORCH_MIB, stage


def test_resume_says_where_the_time_to_the_first_new_image_goes(
    started: dict[str, Future[Any]],
) -> None:
    (found,) = started["resume"].result()
    assert found["done before"] == 16384
    assert found["files before"] == 4
    parts = [value for name, value in found.items() if name.startswith("of that")]
    assert len(parts) == 5
    assert all(part >= 0 for part in parts)
    assert found["seconds to read the done files, alone"] > 0
    assert sum(parts) == pytest.approx(found["seconds to the first new image"], abs=0.1)
    assert found["seconds to the first new file"] > found["seconds to the first new image"]


def test_scaling_keeps_every_replica_at_work(started: dict[str, Future[Any]]) -> None:
    (found,) = started["scaling"].result()
    assert found["replicas"] == 2
    assert 0 < found["efficiency, whole call"] < 1
    assert 0 < found["driver cores"] < found["cores busy"]
    assert found["memory"]["SleepingReplica"]["processes"] == 2
    assert found["memory"]["SleepingReplica"]["peak_own_mib"] < WITHOUT_TORCH_MIB


def test_memory_knows_each_kind_of_process(started: dict[str, Future[Any]]) -> None:
    found = started["memory"].result()
    assert found["images"] == 3
    assert found["spilled MiB"] == found["OOM lines in logs"] == 0
    assert found["object store MiB at most"] > 0
    # the pixels of 48 megapixels
    assert found["memory"]["Detector"]["peak_own_mib"] > 137
    assert {"driver", "raylet", "Fetch", "Writer"} < found["memory"].keys()
