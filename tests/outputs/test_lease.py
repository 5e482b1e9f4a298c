"""One run at a time: who holds the output, who waits, who takes over."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.outputs.lease import Lease, holder
from pipeline.store import objects, urls


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, str]:
    if request.param == "local":
        return urls.filesystem(f"{tmp_path}/lease.json")
    request.getfixturevalue("s3")
    return urls.filesystem(f"s3://{request.getfixturevalue('bucket')}/lease.json")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(module, "STALE_SECONDS", 4.0)


def foreign(place: tuple[Any, str], **changes: Any) -> dict[str, Any]:
    owner = {"token": "other", "host": "far", "pid": 1, "process": "elsewhere", "renewals": 3}
    owner |= changes
    objects.put(*place, json.dumps(owner).encode())
    return owner


def test_held_then_released(place: tuple[Any, str]) -> None:
    with Lease(*place, "output") as lease:
        assert holder(*place) == lease.token
        with pytest.raises(UsageError, match=r"another run \(process \d+ on .*wait for its end"):
            Lease(*place, "output").__enter__()
        assert holder(*place) == lease.token
    assert holder(*place) is None


def test_a_lease_that_stands_still_is_taken_over(place: tuple[Any, str]) -> None:
    foreign(place)
    with Lease(*place, "output") as lease:
        assert holder(*place) == lease.token


def test_a_dead_process_of_this_machine_is_replaced_at_once(
    place: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALE_SECONDS", 600.0)
    code = (
        "import os; from pipeline.lease import _process; print(os.getpid(), _process(os.getpid()))"
    )
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    pid, _, process = output.strip().partition(" ")
    foreign(place, pid=int(pid), process=process)
    with Lease(*place, "output") as lease:
        assert holder(*place) == lease.token


def test_a_store_that_fails_does_not_cost_the_lease(
    place: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lease(*place, "output") as lease:
        with monkeypatch.context() as patch:
            patch.setattr(objects, "get", lambda *_: 1 / 0)
            time.sleep(0.5)
        before = lease.renewals
        time.sleep(0.6)
        assert lease.renewals > before
        lease.check()


def test_a_lost_lease_is_noticed(place: tuple[Any, str]) -> None:
    with Lease(*place, "output") as lease:
        foreign(place)
        with pytest.raises(lease.LeaseLost):
            lease.check()


def test_a_lost_lease_is_left_alone(place: tuple[Any, str]) -> None:
    with Lease(*place, "output"):
        foreign(place)
    assert holder(*place) == "other"


def test_only_one_creates(place: tuple[Any, str]) -> None:
    fs, path = place
    assert objects.create(fs, path, b"1") and not objects.create(fs, path, b"2")
    assert objects.get(fs, path) == b"1"
    objects.put(fs, path, b"3")
    assert objects.get(fs, path) == b"3"
    objects.delete(fs, path)
    objects.delete(fs, path)
    assert objects.get(fs, path) is None
