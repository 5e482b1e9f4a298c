"""Whole runs on a store that misbehaves: what costs nothing, what costs a row, what ends one."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import s3fs

from pipeline import Config, RunError, run
from pipeline.outputs import lease
from tests.support import faulty, outputs, tiles
from tests.support.engines import PixelEngine, SlowEngine
from tests.support.faulty import Fault, Proxy

pytestmark = pytest.mark.alone

IMAGES = 240
# what costs no image, to an object that is read: together a tenth of the requests
PASSING = (
    "SlowDown",
    "InternalError",
    faulty.RESET,
    faulty.RESET_AMID,
    faulty.CUT,
    faulty.SHORTENED,
    faulty.UNCHECKED,
    faulty.OVERSTATED,
)


@pytest.fixture(scope="module")
def proxied(s3: Any) -> Iterator[Proxy]:
    """A Ray cluster whose processes, as this one, reach the S3 server only through a proxy."""
    before = ray.is_initialized()
    with pytest.MonkeyPatch.context() as patch, Proxy(s3.meta.endpoint_url) as proxy:
        ray.shutdown()  # its processes know the server itself
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        s3fs.S3FileSystem.clear_instance_cache()
        start_ray()
        yield proxy
        ray.shutdown()
    s3fs.S3FileSystem.clear_instance_cache()
    if before:
        start_ray()


def start_ray() -> None:
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)


@pytest.fixture
def store(proxied: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The proxy, without faults; a lease that a failed run of this process left is soon stale."""
    monkeypatch.setattr(lease, "RENEW_SECONDS", 1.0)
    monkeypatch.setattr(lease, "STALE_SECONDS", 3.0)
    proxied.injected.clear()
    yield proxied
    proxied.faults = []


def go(bucket: str, engine: Any = PixelEngine, **options: Any) -> str:
    """Run to an end that is complete; returns the output."""
    options = {"input": f"s3://{bucket}/images/", "output": f"s3://{bucket}/out"} | options
    config = Config(weights="random:0", rows_per_file=16, micro_batch=4, **options)
    assert run(config, engine)
    return config.output


def once_at_work(output: str, action: Callable[[], None]) -> threading.Thread:
    """Do something when the run to an output has committed its first files."""

    def wait() -> None:
        deadline = time.monotonic() + 120
        while outputs.committed(output) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_tenth_of_the_requests_fail(store: Proxy, s3: Any, bucket: str) -> None:
    """Only an object that is gone, or that never comes to its end, costs its row."""
    tiles.upload(s3, bucket, range(IMAGES))
    gone, slow, other = (rf"images/{tiles.name(number)}" for number in (7, 100, 200))
    key = f"images/{tiles.name(200)}"
    store.faults = [
        Fault(faulty.ACT, path=gone, act=lambda _: s3.delete_object(Bucket=bucket, Key=gone)),
        Fault(
            faulty.ACT,
            path=other,
            act=lambda _: s3.put_object(Bucket=bucket, Key=key, Body=tiles.tile(999, 48)),
        ),
        Fault(faulty.TRICKLE, path=slow),
        *(Fault(kind, 0.1 / len(PASSING), path="images/0") for kind in PASSING),
        *(Fault(kind, 0.03, ".*") for kind in ("SlowDown", faulty.RESET, faulty.RESET_LATE)),
    ]
    output = go(bucket, fetch_timeout=2, fetch_attempts=4)
    hit = store.injected.copy()
    store.faults = []
    found = tiles.check_complete(
        output, IMAGES, {7: "not_found", 100: "timeout"}, replaced={200: (999, 48)}
    )
    assert found[100]["attempts"] == 4 and found[100]["error_stage"] == "fetch"
    assert hit[faulty.ACT] == 2 and hit[faulty.TRICKLE] == 4
    assert all(hit[kind] for kind in PASSING) and hit[faulty.RESET_LATE], hit


@pytest.mark.soak
@pytest.mark.parametrize(
    "kind", [*PASSING, faulty.RESET_LATE, faulty.TRICKLE, faulty.SILENCE, "InsufficientStorage"]
)
def test_a_tenth_of_all_requests(store: Proxy, s3: Any, bucket: str, kind: str) -> None:
    """Of one kind, whatever is read or written; also manifest, lease and files."""
    tiles.upload(s3, bucket, range(IMAGES))
    if kind in (faulty.TRICKLE, faulty.SILENCE):  # of images: other reads may take 60 s each
        store.faults = [Fault(kind, 0.1, path="/images/0")]
    elif kind in (faulty.SHORTENED, faulty.UNCHECKED, faulty.OVERSTATED):
        store.faults = [Fault(kind, 0.1, path="/0|/part-|json")]
    else:
        store.faults = [Fault(kind, 0.1, ".*")]
    output = go(bucket, fetch_timeout=2)
    print(f"\n{kind}: {store.injected[kind]} requests hit")
    assert store.injected[kind] > 10
    store.faults = []
    # what is cut alike twice, and nothing tells of it, is taken for an object that was replaced
    cut = dict.fromkeys((4, 22, 95), "truncated") if kind == faulty.UNCHECKED else {}
    tiles.check_complete(output, IMAGES, cut)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_nothing_but_trickles(store: Proxy, s3: Any, bucket: str) -> None:
    """Each image that never arrives is its own row's error, once the store's outage is ruled out.

    With nothing else in flight that takes the five minutes of `pipeline.stages.patience`.
    """
    tiles.upload(s3, bucket, range(64))
    store.faults = [Fault(faulty.TRICKLE, path="images/000[01]")]
    output = go(bucket, fetch_timeout=1, fetch_attempts=2)
    store.faults = []
    tiles.check_complete(output, 64, dict.fromkeys(range(20), "timeout"))


@pytest.mark.parametrize(
    "seconds", [8, pytest.param(60, marks=[pytest.mark.soak, pytest.mark.timeout(500)])]
)
def test_the_store_is_down(store: Proxy, s3: Any, bucket: str, seconds: int) -> None:
    tiles.upload(s3, bucket, range(IMAGES))

    def outage() -> None:
        with store.down():
            time.sleep(seconds)

    thread = once_at_work(f"s3://{bucket}/out", outage)
    output = go(bucket, SlowEngine)
    thread.join()
    assert store.injected["down"] == 1
    tiles.check_complete(output, IMAGES)


@pytest.mark.soak
@pytest.mark.timeout(500)
def test_the_store_is_silent(store: Proxy, s3: Any, bucket: str) -> None:
    """For a minute it takes requests and answers none."""
    tiles.upload(s3, bucket, range(IMAGES))

    def fall_silent() -> None:
        store.faults = [Fault(faulty.SILENCE, method=".*")]
        time.sleep(60)
        store.faults = []

    thread = once_at_work(f"s3://{bucket}/out", fall_silent)
    output = go(bucket, SlowEngine, fetch_timeout=5)
    thread.join()
    assert store.injected[faulty.SILENCE]
    tiles.check_complete(output, IMAGES)


def break_off(store: Proxy, bucket: str, fault: Fault, reason: str, **options: Any) -> None:
    """A run that breaks off in its middle for a reason, and ends when that is mended."""
    output = f"s3://{bucket}/out"

    def spoil() -> None:
        store.faults = [fault]

    thread = once_at_work(output, spoil)
    with pytest.raises(RunError, match=reason) as caught:
        go(bucket, SlowEngine, **options)
    thread.join()
    assert len(str(caught.value).splitlines()) == 1
    assert store.injected[fault.kind]
    store.faults = []
    kept = tiles.check_partial(output)
    before = outputs.files(output)
    assert 0 < len(kept) < IMAGES
    go(bucket)
    tiles.check_complete(output, IMAGES)
    after = outputs.files(output)
    assert {path for path in before if path.startswith("detections/")} <= set(after)


@pytest.mark.parametrize(
    "status", [400, pytest.param(403, marks=pytest.mark.soak)], ids=["as-s3", "as-others"]
)
def test_credentials_expire(store: Proxy, s3: Any, bucket: str, status: int) -> None:
    tiles.upload(s3, bucket, range(IMAGES))
    expired = Fault("ExpiredToken", method=".*", status=status)
    break_off(store, bucket, expired, "expired")


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("code", ["AccessDenied", "InsufficientStorage"])
@pytest.mark.parametrize("path", ["/out/detections/", "/out/"])
def test_writes_are_refused(store: Proxy, s3: Any, bucket: str, code: str, path: str) -> None:
    tiles.upload(s3, bucket, range(IMAGES))
    reason = "no permission; check|Access Denied" if code == "AccessDenied" else code
    break_off(store, bucket, Fault(code, method="PUT", path=path), reason)


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_a_write_that_hangs(store: Proxy, s3: Any, bucket: str) -> None:
    """The run says what it waits for, and keeps what is committed."""
    tiles.upload(s3, bucket, range(IMAGES))
    limits = {"fetch_timeout": 4, "decode_timeout": 4, "stall_timeout": 8}
    fault = Fault(faulty.SILENCE, method="PUT", path="/out/detections/")
    break_off(store, bucket, fault, "write waits for the store", **limits)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no right to mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.soak
def test_the_disk_is_full(store: Proxy, s3: Any, bucket: str, disk: Path) -> None:
    tiles.upload(s3, bucket, range(IMAGES))
    output = str(disk / "out")
    with pytest.raises(RunError, match="No space left on device") as caught:
        go(bucket, output=output)
    assert len(str(caught.value).splitlines()) == 1
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    assert 0 < len(tiles.check_partial(output)) < IMAGES
    go(bucket, output=output)
    tiles.check_complete(output, IMAGES)
