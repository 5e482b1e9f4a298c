"""Attempts that break off, by whatever, and what the next one does: whole runs on a cluster."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from pipeline import Config, RunError, UsageError, run
from pipeline.cluster import connection
from pipeline.cluster.placement import Placement
from pipeline.driver import attempt, record, start
from pipeline.driver.attempt import Attempt
from pipeline.driver.record import Record
from pipeline.outputs import seal
from pipeline.outputs.finished import Finished
from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import Lease
from pipeline.outputs.manifest import Manifest
from pipeline.outputs.seal import Seal
from pipeline.stages import chain
from pipeline.stages.chain import Stages
from pipeline.store import objects
from tests.support import tiles
from tests.support.chaos import seen
from tests.support.engines import LoggedEngine, PixelEngine
from tests.support.outputs import by_name, files, rows
from tests.support.runs import go, listed_in_slices
from tests.support.writing import leased, write


def test_a_replica_that_cannot_start(
    cluster: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "INIT_DEATHS", 1)
    options: dict[str, Any] = {"input": str(folder), "output": str(tmp_path / "out")}
    with pytest.raises(RunError, match="worker could not continue: .*no such device here$"):
        go(Absent, **options)


class Absent(PixelEngine):
    """An engine without its device."""

    def __init__(self, *_: Any) -> None:
        raise RuntimeError("no such device here")


def test_a_run_on_gpus_does_not_go_on_with_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}]
    nothing: Any = SimpleNamespace(check=None, grown=False)

    def begin(config: Config, *_: Any) -> None:
        del nodes[0]
        lost = Attempt(config, *[nothing] * 8)
        lost._placed_anew(nothing, nothing)

    monkeypatch.setattr(connection, "alive", lambda: nodes)
    monkeypatch.setattr("pipeline.driver.attempt.begin", begin)
    config = Config(input="i", output=str(tmp_path))
    with pytest.raises(RunError, match="the cluster has lost nodes .*: the cluster has no GPU"):
        start._execute(config, nothing, Layout.of(config.output), PixelEngine, 0.0)


def test_sigterm_commits_what_an_engine_has_seen(cluster: None, tmp_path: Path) -> None:
    """And the same run does the rest, and no more; with whole processes, `test_chaos`."""
    images, log, output = 240, tmp_path / "log", tmp_path / "out"
    log.mkdir()
    engine = functools.partial(LoggedEngine, folder=str(log), seconds=0.05)
    options: dict[str, Any] = {
        "input": tiles.write(tmp_path / "images", range(images)),
        "output": str(output),
        "rows_per_file": 32,
        "micro_batch": 4,
        "grace": 60.0,
    }

    def terminate() -> None:
        deadline = time.monotonic() + 100
        while len(seen(log)) < 40 and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    def terminated(*_: Any) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        threading.Thread(target=terminate).start()
        with pytest.raises(SystemExit) as stopped:
            go(engine, **options)
    finally:
        signal.signal(signal.SIGTERM, before)
    kept = tiles.check_partial(str(output))
    assert kept == {tile for _, _, tile in seen(log)} and 40 <= len(kept) < images
    assert stopped.value.__notes__ == [f"{len(kept)} images are written"]
    assert not (output / "_run/lease.json").exists()
    unhurried = functools.partial(LoggedEngine, folder=str(log), seconds=0.0)
    assert go(unhurried, **options).processed == images - len(kept)
    tiles.check_complete(str(output), images)
    assert len(seen(log)) == images


def test_a_failed_run_continues(
    cluster: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        (folder / f"{number}.jpg").write_bytes((folder / "rocket.jpg").read_bytes())
    options: dict[str, Any] = {"input": str(folder), "output": str(tmp_path / "out")}
    add = Finished.add

    def failing(finished: Finished, name: str, table: pa.Table) -> None:
        if finished.missing < 60:
            raise OSError("the disk of the driver is gone")
        add(finished, name, table)

    with monkeypatch.context() as patch:
        patch.setattr(Finished, "add", failing)
        with pytest.raises(RunError, match="the disk of the driver is gone"):
            go(**options, rows_per_file=2)
    assert not (tmp_path / "out/_SUCCESS").exists()
    assert not (tmp_path / "out/_run/lease.json").exists()
    kept = [row["image_id"] for row in rows(str(tmp_path / "out"))]
    summary = go(**options)
    # a worker that is ended may still write its file
    assert 0 < summary.processed <= summary.images - len(kept)
    found = rows(str(tmp_path / "out"))
    assert [row["image_id"] for row in found] == list(range(summary.images))
    content = json.loads((tmp_path / "out/_run/run.json").read_text())
    assert len(content["attempts"]) == 2 and len({row["run_id"] for row in found}) == 1
    assert content["counts"]["images"] == summary.images


def test_too_many_errors_end_the_run(cluster: None, folder: Path, tmp_path: Path) -> None:
    uris = [f"{folder}/rocket.jpg"] * 10 + [f"{folder}/gone-{n}.jpg" for n in range(30_000)]
    uris[:10] = [f"{folder}/rocket.jpg?{n}" for n in range(10)]
    (tmp_path / "list.txt").write_text("\n".join(uris))
    options = {"input": str(tmp_path / "list.txt"), "output": str(tmp_path / "out")}
    with pytest.raises(RunError) as caught:
        go(**options)
    text = str(caught.value)
    assert "images failed, more than max_error_rate (0.05) allows" in text
    assert "the most common error is not_found" in text and text.count(f"{folder}/") == 3
    kept = [row["image_id"] for row in rows(str(tmp_path / "out"))]
    assert len(kept) == len(set(kept))
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_retry_of_the_failures(cluster: None, folder: Path, tmp_path: Path) -> None:
    (folder / "late.jpg").write_bytes(b"")
    (folder / "never.jpg").write_bytes(b"")
    output = tmp_path / "out"
    options: dict[str, Any] = {"input": str(folder), "output": str(output)}
    failures = {"input": f"{output}/detections/status=error", "output": str(output)}
    with pytest.raises(UsageError, match="holds no run; begin one before a retry"):
        go(**failures)
    first = go(**options)
    assert first.errors == {"empty": 2}
    (folder / "late.jpg").write_bytes((folder / "rocket.jpg").read_bytes())
    second = go(**failures)
    assert second.processed == 2 and second.errors == {"empty": 1}
    found = by_name(str(output))
    assert len(rows(str(output))) == len(found) == first.images
    assert found["late.jpg"]["status"] == "ok" and found["never.jpg"]["status"] == "error"
    assert go(**options).processed == 0  # the original command finds all done
    (folder / "never.jpg").write_bytes((folder / "rocket.jpg").read_bytes())
    # the same limits need not hold in a retry
    assert go(**failures, max_pixels=1_000_000).errors == {}
    assert go(**failures).processed == 0
    assert not list((output / "detections/status=error").iterdir())


def test_an_interrupted_retry_continues(
    cluster: None, folder: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run from a folder into a bucket."""
    (folder / "late.jpg").write_bytes(b"")
    output = f"s3://{bucket}/out"
    options: dict[str, Any] = {"input": str(folder), "output": output}
    failures = {"input": f"{output}/detections/status=error", "output": output}
    images = go(**options).images
    (folder / "late.jpg").write_bytes((folder / "rocket.jpg").read_bytes())
    for name in ("_process", "_seal", "_complete"):
        with monkeypatch.context() as patch:
            patch.setattr(Attempt, name, _interrupt)
            with pytest.raises(KeyboardInterrupt):
                go(**failures)
        assert "_SUCCESS" not in files(output)
    assert go(**options).errors == {}  # the original command finishes a retry, too
    assert [row["image_id"] for row in rows(output)] == list(range(images))


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_manifest_of_another_config_is_not_used(
    cluster: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"input": str(folder), "output": str(tmp_path / "out")}
    with monkeypatch.context() as patch:
        patch.setattr(record, "save", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            go(**options)
    assert (tmp_path / "out/_run/manifest.json").exists()
    assert go(**options, limit=2).images == 2


@pytest.mark.soak
def test_failures_into_another_output(cluster: None, folder: Path, tmp_path: Path) -> None:
    (folder / "empty.jpg").write_bytes(b"")
    go(input=str(folder), output=str(tmp_path / "out"))
    summary = go(
        input=f"{tmp_path}/out/detections/status=error",
        output=str(tmp_path / "other"),
        carry=[],
    )
    assert summary.images == 1 and summary.errors == {"empty": 1}


def test_several_slices(
    cluster: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uris = [f"{folder}/rocket.jpg?{number}" for number in range(400)]
    uris[0], uris[300], uris[399] = (
        f"{folder}/{n}" for n in ("coffee.png", "chelsea.png", "moon.png")
    )
    (tmp_path / "list.txt").write_text("\n".join(uris))
    config = Config(
        input=str(tmp_path / "list.txt"),
        output=str(tmp_path / "out"),
        weights="random:0",
        max_error_rate=1,
    )
    listed_in_slices(config, 256)
    failed = tmp_path / "out/detections/status=error"

    def late(*arguments: Any) -> None:
        """A file of the first slice comes when all are sealed."""
        data = sorted(failed.iterdir())[0].read_bytes()
        (failed / "part-00000-0001-000000000000-ffff.parquet").write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr(record, "end", late)
        with pytest.raises(
            RunError, match="files were added to slice 0 .*run the same command again"
        ):
            run(config, PixelEngine)
    assert not (tmp_path / "out/_SUCCESS").exists() and len(rows(str(tmp_path / "out"))) > 400
    summary = run(config, PixelEngine)
    assert summary and summary.images == 400 and summary.errors == {"not_found": 397}
    assert summary.processed == 0
    assert [row["image_id"] for row in rows(str(tmp_path / "out"))] == list(range(400))
    assert len(list((tmp_path / "out/_run/slices").iterdir())) == 2


def test_a_kill_between_counts_and_success(tmp_path: Path) -> None:
    """Of an attempt that begins over a complete output; the next one does not take it for one."""
    config = Config(input="i", output=str(tmp_path))
    layout, known = Layout.of(config.output), Record("r", {}, {}, {})
    objects.put(layout.fs, layout.success, b"")
    assert start._complete(config, layout, known) is None
    known.counts = {"errors": {}}
    assert start._complete(config, layout, known) is known


def test_what_is_known_of_slices_that_are_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry of three slices, of which the last one lost its seal, as by `--refresh`."""
    output, told = leased(tmp_path), []
    layout = Layout.of(output)
    lease = Lease(layout)
    lease.token = "mine"
    for index in range(3):
        write(output, range(10 * index, 10 * index + 10), [10 * index], index=index)
        Seal(1, 10, 9, {"truncated": 1}, 2).save(lease, index)
    seal.remove(lease, 2)

    class Watched(contextlib.nullcontext[Any]):
        def __init__(self, coordinator: Any, config: Any, placement: Any, reporter: Any, _: Any):
            super().__init__(self)
            self.reporter, self.state = reporter, SimpleNamespace(sums={}, examples={})

    def process(self: Attempt, chain: Any, finished: Any, watch: Any, elsewhere: int) -> Any:
        told.append((watch.reporter.finished, elsewhere, watch.reporter.failed.total()))
        return chain, finished

    monkeypatch.setattr(attempt, "Watch", Watched)
    for name, function in (("_chain", lambda *_: None), ("_process_slice", process)):
        monkeypatch.setattr(Attempt, name, function)
    monkeypatch.setattr(Attempt, "_seal", lambda *_: None)
    known = Manifest(30, 0, [], part_rows=10, slice_rows=10)
    noted: Any = SimpleNamespace(run_id="r", retry_from=2)
    placement = Placement("cpu", 1, 0, 1, 0, 1, 1, 1, 64)
    config = Config(input="i", output=output)
    nothing: Any = None
    begun = Attempt(config, nothing, layout, lease, placement, known, noted, 0, Stages())
    sums, _ = begun._process_pending(nothing, None)
    assert sums == {"processed": 3}
    assert told == [(18, 9, 0), (18, 10, 0), (27, 20, 0)]


def test_two_runs_at_once(cluster: None, folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"input": str(folder), "output": str(tmp_path / "out")}
    with (
        Lease(Layout.of(options["output"])),
        pytest.raises(UsageError, match="another run .* is writing"),
    ):
        go(**options)
