"""What kills, hangs or breaks the process that touches it: one row or one reason, never a hang."""

from __future__ import annotations

import functools
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import Config, RunError, run
from tests.support import chaos, engines, tiles
from tests.support.engines import (
    OnceBroken,
    PixelEngine,
    PoisonedDecoder,
    PoisonedEngine,
    Unbuildable,
)

pytestmark = pytest.mark.alone

IMAGES = 240
# with the batch that it came in, and then three times alone
DEATHS = 4


def go(folder: Path, engine: Any, count: int = IMAGES, **options: Any) -> str:
    """Run the tiles below a folder to a complete end; returns the output."""
    images = folder / "images"
    if not images.exists():
        tiles.write(images, range(count))
    options = {"rows_per_file": 16, "micro_batch": 4} | options
    output = str(folder / "out")
    assert run(Config(input=str(images), output=output, weights="random:0", **options), engine)
    return output


def poisoned(
    folder: Path, marked: Sequence[int], fate: Callable[[], None], kind: Any = PoisonedEngine
) -> Any:
    return functools.partial(kind, folder=str(folder), marked=marked, fate=fate)


def fates(folder: Path) -> Counter[int]:
    """How often it happened, by tile."""
    return Counter(int(line) for line in (folder / "fates.log").read_text().split())


def check_poisoned(output: str, folder: Path, marked: Sequence[int]) -> None:
    """Each marked tile is an error of its own, after few deaths; its neighbours are ok."""
    found = tiles.check_complete(output, IMAGES, dict.fromkeys(marked, "killed_worker"))
    assert {found[number]["error_stage"] for number in marked} == {"replica"}
    deaths = fates(folder)
    assert set(deaths) == set(marked) and max(deaths.values()) <= DEATHS, deaths


# together in one batch, at its ends, far apart
SOME = {1: [70], 3: [0, 70, 71], 10: [0, 1, 15, 16, 70, 71, 72, 130, 200, 239]}


@pytest.mark.parametrize(
    "count,fate,kind",
    [
        (1, engines.segfault, PoisonedDecoder),
        pytest.param(3, engines.end_process, PoisonedEngine, marks=pytest.mark.soak),
        pytest.param(3, engines.segfault, PoisonedEngine, marks=pytest.mark.soak),
        pytest.param(3, engines.end_process, PoisonedDecoder, marks=pytest.mark.soak),
        pytest.param(10, engines.segfault, PoisonedDecoder, marks=pytest.mark.soak),
    ],
)
@pytest.mark.timeout(900)
def test_poison(
    cluster: None, tmp_path: Path, count: int, fate: Callable[[], None], kind: Any
) -> None:
    marked = SOME[count]
    output = go(tmp_path, poisoned(tmp_path, marked, fate, kind))
    check_poisoned(output, tmp_path, marked)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_kills_blame_no_innocent(cluster: None, tmp_path: Path, seed: int) -> None:
    """Replicas are killed from outside too, while the suspects are taken one by one."""
    ended, moment, hits = threading.Event(), random.Random(seed), []

    def kill() -> None:
        while not ended.wait(moment.uniform(6, 12)):
            for pid in chaos.processes("Detector", chaos.tree([os.getpid()]))[:1]:
                hits.append(pid)
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        output = go(tmp_path, poisoned(tmp_path, SOME[3], engines.end_process))
    finally:
        ended.set()
        killer.join()
    print(f"\n{len(hits)} kills of innocent replicas beside 3 poisoned images")
    assert hits
    check_poisoned(output, tmp_path, SOME[3])


@pytest.mark.soak
@pytest.mark.parametrize(
    "fate,reason",
    [(engines.no_such_kernel, "no kernel image is available"), (engines.end_process, "died|start")],
    ids=["raises", "dies"],
)
def test_no_replica_can_start(
    cluster: None, tmp_path: Path, fate: Callable[[], None], reason: str
) -> None:
    with pytest.raises(RunError, match=reason) as caught:
        go(tmp_path, functools.partial(Unbuildable, fate=fate), 32)
    assert len(str(caught.value).splitlines()) == 1


def test_a_lost_device_costs_no_image(cluster: None, tmp_path: Path) -> None:
    """Every later call in that process fails as well, so its replica starts anew."""
    output = go(tmp_path, poisoned(tmp_path, [70], engines.lose_device, OnceBroken))
    assert fates(tmp_path) == {70: 1}
    tiles.check_complete(output, IMAGES)


@pytest.mark.soak
def test_an_image_that_breaks_every_device(cluster: None, tmp_path: Path) -> None:
    marked = [70, 200]
    output = go(tmp_path, poisoned(tmp_path, marked, engines.lose_device))
    check_poisoned(output, tmp_path, marked)
    found = tiles.check_complete(output, IMAGES, dict.fromkeys(marked, "killed_worker"))
    assert all("device-side assert" in found[number]["error_message"] for number in marked)


@pytest.mark.timeout(200)
def test_a_forward_that_hangs(cluster: None, tmp_path: Path) -> None:
    # a replica may take 10 s to start, which must not look like a standstill
    limits = {"fetch_timeout": 4, "decode_timeout": 4, "stall_timeout": 20}
    with pytest.raises(RunError, match="detect waits for") as caught:
        go(tmp_path, poisoned(tmp_path, [200], engines.hang), **limits)
    assert len(str(caught.value).splitlines()) == 1
    kept = tiles.check_partial(str(tmp_path / "out"))
    assert 0 < len(kept) < IMAGES
    tiles.check_complete(go(tmp_path, PixelEngine), IMAGES)


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_a_decoder_that_hangs(cluster: None, tmp_path: Path) -> None:
    """It is ended by its own limit, and costs one row."""
    hanging = poisoned(tmp_path, [70], engines.hang, PoisonedDecoder)
    output = go(tmp_path, hanging, decode_timeout=5)
    found = tiles.check_complete(output, IMAGES, {70: "decode_timeout"})
    assert found[70]["error_stage"] == "decode" and fates(tmp_path)[70] <= DEATHS


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_reads_that_hang(cluster: None, tmp_path: Path) -> None:
    """Pipes that nobody writes to take the place of files, as a dead network disk would."""
    images, stuck = tmp_path / "images", [3, 70, 71, 200]
    tiles.write(images, range(IMAGES))
    for number in stuck:
        (images / tiles.name(number)).unlink()
        os.mkfifo(images / tiles.name(number))
    output = go(tmp_path, PixelEngine, fetch_timeout=2, fetch_attempts=2)
    tiles.check_complete(output, IMAGES, dict.fromkeys(stuck, "timeout"))
