"""One run at a time: who holds the output, who waits, who takes over."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity

from pipeline.errors import RunError, UsageError
from pipeline.outputs import lease
from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import Lease, LeaseLost, holder
from pipeline.store import objects
from tests.support.away import away_for


@pytest.fixture(params=["local", "s3"])
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> Layout:
    if request.param == "local":
        return Layout.of(f"{tmp_path}/out")
    request.getfixturevalue("s3")
    return Layout.of(f"s3://{request.getfixturevalue('bucket')}/out")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(lease, "STALE_SECONDS", 4.0)


def foreign(layout: Layout, **changes: Any) -> dict[str, Any]:
    owner = {"token": "other", "host": "far", "pid": 1, "process": "elsewhere", "renewals": 3}
    owner |= changes
    objects.put(layout.fs, layout.lease, json.dumps(owner).encode())
    return owner


def renewals(layout: Layout) -> int:
    found = lease.read(layout)
    assert found
    return int(found["renewals"])


def test_held_then_released(layout: Layout) -> None:
    with Lease(layout) as held:
        assert holder(layout) == held.token
        with pytest.raises(UsageError, match=r"another run \(process \d+ on .*wait until it ends"):
            Lease(layout).__enter__()
        assert holder(layout) == held.token
    assert holder(layout) is None


def test_a_store_that_creates_whatever_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some do that say they speak S3."""
    layout = Layout.of(f"{tmp_path}/out")

    def replace(*arguments: Any) -> bool:
        objects.put(*arguments)
        return True

    monkeypatch.setattr(objects, "create", replace)
    with Lease(layout) as held:
        with pytest.raises(UsageError, match="wait until it ends"):
            Lease(layout).__enter__()
        assert holder(layout) == held.token


def test_a_lease_that_stands_still_is_taken_over(layout: Layout) -> None:
    foreign(layout)
    with Lease(layout) as held:
        assert holder(layout) == held.token


def test_who_stood_still_does_not_take_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process that is stopped for a minute between two looks at the lease of a live run."""
    layout, looks = Layout.of(f"{tmp_path}/out"), itertools.count()
    seen = foreign(layout)

    def sleep(_: float) -> None:
        if next(looks) == 1:
            foreign(layout, renewals=4)

    clock = SimpleNamespace(sleep=sleep, monotonic=lambda: 60.0 * next(looks))
    monkeypatch.setattr(lease, "time", clock)
    with pytest.raises(UsageError, match="is writing"):
        Lease(layout).__enter__()
    assert lease.read(layout) == seen | {"renewals": 4}


def test_no_worker_writes_where_the_run_counts(layout: Layout) -> None:
    with Lease(layout) as held:
        lease.check_open(layout, held.token)
        held.close()
        with pytest.raises(LeaseLost, match="ended without this worker"):
            lease.check_open(layout, held.token)
        before = renewals(layout)
        time.sleep(0.6)
        assert renewals(layout) > before
        held.check()
        with pytest.raises(LeaseLost, match="ended without this worker"):
            lease.check_open(layout, held.token)


def test_a_dead_process_of_this_machine_is_replaced_at_once(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE_SECONDS", 600.0)
    code = "import os; from pipeline.outputs.lease import _process as process; "
    code += "print(os.getpid(), process(os.getpid()))"
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    pid, _, process = output.strip().partition(" ")
    foreign(layout, pid=int(pid), process=process)
    with Lease(layout) as held:
        assert holder(layout) == held.token


def test_a_process_that_proc_hides_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_: int) -> None:
        raise PermissionError

    ours, seen = os.getpid(), lease._process
    owner = {"pid": 1, "process": seen(1)}
    monkeypatch.setattr(lease, "_process", lambda pid: seen(pid) if pid == ours else None)
    assert not lease.is_gone(owner)
    monkeypatch.setattr(os, "kill", kill)
    assert not lease.is_gone(owner)


def test_a_store_that_fails_does_not_cost_the_lease(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lease(layout) as held:
        with monkeypatch.context() as patch:
            patch.setattr(objects, "get_json", lambda *_: 1 / 0)
            time.sleep(0.5)
        before = renewals(layout)
        time.sleep(0.6)
        assert renewals(layout) > before
        held.check()


def test_a_store_that_is_away_at_the_end_hides_no_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        tries.append(1)
        raise ConnectionError("away")

    layout, tries = Layout.of(f"{tmp_path}/out"), list[int]()
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())
    monkeypatch.setattr(lease, "RENEW_SECONDS", 100.0)
    with pytest.raises(RunError, match="the reason"), Lease(layout):
        monkeypatch.setattr(layout.fs, "cat_file", away)
        raise RunError("the reason")
    assert len(tries) == objects.FIRST_ATTEMPTS


def test_a_store_that_is_away_for_a_while_ends_no_write(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign(layout, token=(held := Lease(layout)).token)
    away_for(layout.fs, objects.ATTEMPTS - 1, monkeypatch)
    held.put(f"{layout.root}/a", b"b")
    assert objects.get(layout.fs, f"{layout.root}/a") == b"b"


def test_a_lost_lease_is_noticed(layout: Layout) -> None:
    with Lease(layout) as held:
        foreign(layout)
        with pytest.raises(LeaseLost):
            held.check()


def test_a_renewal_that_hangs_does_not_take_the_lease_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout.of(f"{tmp_path}/out")
    with Lease(layout) as held:
        theirs = Path(layout.lease)
        monkeypatch.setattr(os, "fsync", lambda _: theirs.write_text('{"token": "other"}'))
        held._thread.join(5)
        assert held.lost
    assert holder(layout) == "other"


def test_a_lost_lease_is_left_alone(layout: Layout) -> None:
    with Lease(layout):
        foreign(layout)
    assert holder(layout) == "other"
