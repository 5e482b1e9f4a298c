"""Kills: SIGKILL of the driver and all its processes at random moments, then the same command."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import status
from pipeline import Config, run
from pipeline.config import from_yaml
from tests.support import packed, tiles
from tests.support.chaos import seen
from tests.support.engines import PixelEngine
from tests.support.kill_target import SETTINGS
from tests.support.outputs import committed, files, rows, tables
from tests.support.runs import told

pytestmark = pytest.mark.alone

IMAGES = 1200
# of a kill, for the one replica: two ranges of 64 micro-batches, here of one image each, and the
# images that wait for their file, which holds whole ranges
COST = 2 * 64 + 64


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.kill_target", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def descendants(pid: int) -> list[int]:
    """All processes below one, found by their parents and by its session."""
    parents: dict[int, tuple[int, int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = (int(fields[1]), int(fields[3]))
    found = {pid}
    while True:
        more = {
            p for p, (parent, session) in parents.items() if parent in found or session in found
        }
        if more <= found:
            return sorted(found)
        found |= more


def kill_tree(process: subprocess.Popen[str]) -> None:
    for pid in descendants(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def check_exactly_once(output: str, images: int, failed: int) -> None:
    found = rows(output)
    assert [row["image_id"] for row in found] == list(range(images))
    assert sum(row["status"] == "error" for row in found) == failed
    assert len({table.schema for table in tables(output).values()}) == 1
    assert "_SUCCESS" in files(output)


def upload(s3: Any, bucket: str, images: int) -> str:
    """Tiles, a fortieth of them broken; returns their URL."""
    source = tiles.upload(s3, bucket, range(images))
    for number in range(0, images, 40):
        s3.put_object(Bucket=bucket, Key=f"images/{tiles.name(number)}", Body=b"broken")
    return source


def upload_packed(s3: Any, bucket: str, images: int) -> str:
    """The same, a third of them each in a tar, in a compressed one, and in a zip."""
    files = [(tiles.name(n), tiles.tile(n) if n % 40 else b"broken") for n in range(images)]
    third = images // 3
    bodies = {
        "a.tar": packed.tar(files[:third]),
        "b.tar.gz": packed.tar(files[third : 2 * third], "w:gz", compresslevel=1),
        "c.zip": packed.zipped(files[2 * third :]),
    }
    for name, body in bodies.items():
        s3.put_object(Bucket=bucket, Key=f"images/{name}", Body=body)
    return f"s3://{bucket}/images/*.{{tar,tar.gz,zip}}"


def kill_at_work(
    source: str, output: str, seconds: float, look: Callable[[int], None] = lambda pid: None
) -> bool:
    """Start a run, and kill it so long after it has begun to write; whether it was at work then.

    Args:
        look: called with the process id of the run before that.
    """
    process = start(source, output, "--micro-batch", "1")
    before, deadline = committed(output), time.monotonic() + 120
    try:
        while committed(output) == before and process.poll() is None:
            assert time.monotonic() < deadline, "the run did not begin to write"
            time.sleep(0.1)
        look(process.pid)
        time.sleep(seconds)
        return process.poll() is None
    finally:
        kill_tree(process)


def test_a_kill(
    cluster: None,
    s3: Any,
    bucket: str,
    capsys: pytest.CaptureFixture[str],
    engine_log: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what `jobs.status` says of the run at work, and of what is left of it.

    The images are members of archives.

    What is done again is no more than docs/reliability.md says.
    """
    monkeypatch.setenv("ENGINE_SECONDS", "0.01")
    source = upload_packed(s3, bucket, IMAGES)
    output = f"s3://{bucket}/labels"
    running: dict[str, Any] = {}

    def look(pid: int) -> None:
        deadline = time.monotonic() + 60
        while not (running.get("progress") or {}).get("images_per_second"):
            assert time.monotonic() < deadline
            running.update(told(capsys, output))
            time.sleep(0.2)
        assert (running["status"], running["holder"]["pid"]) == ("running", pid)
        assert 0 < running["written"] < running["images"] == IMAGES
        assert running["progress"]["images"] > 0
        while len(seen(engine_log)) < COST + 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    assert kill_at_work(source, output, 0.5, look)
    stopped = told(capsys, output)
    assert stopped["status"] == "stopped" and stopped["progress"] is None
    assert running["written"] <= stopped["written"] < IMAGES
    written = sum(row["status"] == "ok" for row in rows(output))
    assert 0 < len(seen(engine_log)) - written <= COST
    assert stopped["slices"] == [
        {"slice": 0, "stage": "begun", "images": IMAGES, "written": stopped["written"]}
    ]
    before = files(output)
    assert status.main([output]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{output} is stopped\nattempt     1, since 20")
    assert "was killed" in said and "continue    with the command that began it" in said
    assert files(output) == before

    # the same command, on the cluster of this process, which is there already
    options = from_yaml(SETTINGS) | {"micro_batch": 4}
    summary = run(Config(input=source, output=output, **options), PixelEngine)
    assert summary and summary.processed == IMAGES - stopped["written"]
    check_exactly_once(output, IMAGES, IMAGES // 40)
    names = [row["image_uri"].rpartition("#")[2] for row in rows(output)]
    assert names == [tiles.name(number) for number in range(IMAGES)]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 8))
def test_five_kills(s3: Any, bucket: str, seed: int) -> None:
    images, random_moment = 600, random.Random(seed)
    source = upload(s3, bucket, images)
    output = f"s3://{bucket}/labels"
    hit = sum(kill_at_work(source, output, random_moment.uniform(0, 2)) for _ in range(5))
    process = start(source, output)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    check_exactly_once(output, images, images // 40)
    print(f"\n{hit} kills at work of 5; {images} ids in the output, each once")
