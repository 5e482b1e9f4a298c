"""Whole runs on a real Ray cluster: what goes in, what comes out, what a second run does."""

from __future__ import annotations

import functools
import io
import json
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

from pipeline import Config, RunError, UsageError, run
from pipeline.driver import runner
from pipeline.outputs.finished import Finished
from pipeline.stages import chain
from tests.support import chaos, tiles
from tests.support.chaos import seen
from tests.support.engines import LoggedEngine, PixelEngine, Unending
from tests.support.matching import assert_same, boxes_of, reference
from tests.support.outputs import by_name, files, rows, tables
from tests.support.runs import SMALL, go


def record(output: object) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(f"{output}/_run/run.json").read_text())
    return content


def test_an_s3_prefix_with_failures(
    cluster: None, s3: Any, bucket: str, photographs: dict[str, bytes]
) -> None:
    for name, data in photographs.items():
        s3.put_object(Bucket=bucket, Key=f"images/{name}", Body=data)
    odd = "deep/a b+c%2F?#ü.jpg"
    s3.put_object(Bucket=bucket, Key=f"images/{odd}", Body=photographs["rocket.jpg"])
    s3.put_object(Bucket=bucket, Key="images/zero.jpg", Body=b"")
    s3.put_object(Bucket=bucket, Key="images/page.jpg", Body=b"<html>not found</html>")
    s3.put_object(Bucket=bucket, Key="images/cut.png", Body=photographs["coffee.png"][:5000])
    s3.put_object(Bucket=bucket, Key="images/notes.txt", Body=b"no image")
    s3.put_object(Bucket=bucket, Key="images2/other.jpg", Body=photographs["rocket.jpg"])

    output = f"s3://{bucket}/labels"
    summary = go(input=f"s3://{bucket}/images/", output=output)
    found = by_name(output)
    assert summary.images == len(found) == len(rows(output)) == len(photographs) + 4
    assert summary.errors == {"truncated": 1, "empty": 1, "not_an_image": 1}
    assert summary.exit_code == 3
    assert found["zero.jpg"]["error_code"] == "empty"
    assert found["zero.jpg"]["detections"] is None
    assert found["page.jpg"]["error_stage"] == "decode"
    rocket = found["rocket.jpg"]
    assert (rocket["status"], rocket["width"], rocket["height"]) == ("ok", 640, 427)
    assert rocket["image_uri"] == f"s3://{bucket}/images/rocket.jpg"
    assert rocket["image_bytes"] == len(photographs["rocket.jpg"])
    assert found[odd.split("/")[1]]["detections"] == rocket["detections"]
    assert "_SUCCESS" in files(output)
    assert not any(path.endswith("lease.json") for path in files(output))


def test_the_real_network(detected: Config, calibrated_file: str) -> None:
    """Each row holds what `model([image])` gives, computed here without the pipeline."""
    model = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **SMALL).eval()
    model.load_state_dict(torch.load(calibrated_file))
    found = by_name(detected.output)
    for path in Path(detected.input).iterdir():
        pixels = np.asarray(Image.open(path).convert("RGB")).copy()
        row = found[path.name]
        ours = boxes_of(row)
        assert_same(ours, reference(model, pixels))
        assert row["num_detections"] == len(ours.labels) > 0
    (table,) = tables(detected.output).values()
    detector = json.loads(table.schema.metadata[b"detector"])
    assert detector["trained"] is True and detector["options"]["min_size"] == 128


def test_a_complete_output(
    cluster: None, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"input": str(folder), "output": str(tmp_path / "out")}
    first = go(**options)
    before = files(str(tmp_path / "out"))
    (folder / "new.jpg").write_bytes(b"")  # not seen: the manifest is the run's
    with caplog.at_level(logging.INFO):
        again = go(**options)
    assert "complete already; nothing to do" in caplog.text
    assert again.processed == 0 and again.images == first.images == first.processed
    assert files(str(tmp_path / "out")) == before
    with pytest.raises(UsageError, match="belongs to another run: limit was None and is now 3"):
        go(**options, limit=3)
    with pytest.raises(UsageError, match="model was {} and is now {'min_size': 99}"):
        go(**options, model={"min_size": 99})
    with pytest.raises(UsageError, match="weights was .* choose another output"):
        run(Config(weights="random:1", **options), PixelEngine)
    assert files(str(tmp_path / "out")) == before


def test_a_replica_that_cannot_start(
    cluster: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "INIT_DEATHS", 1)
    options: dict[str, Any] = {"input": str(folder), "output": str(tmp_path / "out")}
    with pytest.raises(RunError, match="worker could not go on: .*no such device here$"):
        go(Absent, **options)


class Absent(PixelEngine):
    """An engine without its device."""

    def __init__(self, *_: Any) -> None:
        raise RuntimeError("no such device here")


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
        with pytest.raises(SystemExit):
            go(engine, **options)
    finally:
        signal.signal(signal.SIGTERM, before)
    kept = tiles.check_partial(str(output))
    assert kept == {tile for _, _, tile in seen(log)} and 40 <= len(kept) < images
    assert not (output / "_run/lease.json").exists()
    assert go(engine, **options).processed == images - len(kept)
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
    content = record(tmp_path / "out")
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
    assert "the commonest error is not_found" in text and text.count(f"{folder}/") == 3
    kept = [row["image_id"] for row in rows(str(tmp_path / "out"))]
    assert len(kept) == len(set(kept))
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_retry_of_the_failures(cluster: None, folder: Path, tmp_path: Path) -> None:
    (folder / "late.jpg").write_bytes(b"")
    (folder / "never.jpg").write_bytes(b"")
    output = tmp_path / "out"
    options: dict[str, Any] = {"input": str(folder), "output": str(output)}
    failures = {"input": f"{output}/detections/status=error", "output": str(output)}
    with pytest.raises(UsageError, match="not complete; finish that run"):
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
            patch.setattr(runner.Attempt, name, _interrupt)
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
        patch.setattr(runner.record, "save", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            go(**options)
    assert (tmp_path / "out/_run/manifest.json").exists()
    assert go(**options, limit=2).images == 2


def test_signatures_are_not_written_down(tmp_path: Path) -> None:
    url = "https://host/list.csv?X-Signature=canary"
    config = Config(input=url, output=str(tmp_path), weights="random:0")
    content = runner.record.new(config, runner.model.resolve(config))
    placement = runner.cluster.Placement("cpu", 1, 0, 1, 0, 1, 1, 1, 1)
    runner.record.begin(content, config, placement)
    assert "canary" not in str(content) and "https://host/list.csv" in str(content)


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
    for module in (runner.manifest, sink):
        monkeypatch.setattr(module, "SLICE_ROWS", 256)
    uris = [f"{folder}/rocket.jpg?{number}" for number in range(600)]
    uris[0], uris[300], uris[599] = (
        f"{folder}/{n}" for n in ("coffee.png", "chelsea.png", "moon.png")
    )
    (tmp_path / "list.txt").write_text("\n".join(uris))
    summary = go(input=str(tmp_path / "list.txt"), output=str(tmp_path / "out"), max_error_rate=1)
    assert summary.images == 600 and summary.errors == {"not_found": 597}
    assert [row["image_id"] for row in rows(str(tmp_path / "out"))] == list(range(600))
    assert len(list((tmp_path / "out/_run/slices").iterdir())) == 3


def test_carried_columns_and_embedded_bytes(
    cluster: None, photographs: dict[str, bytes], tmp_path: Path
) -> None:
    images = [{"bytes": data, "path": name} for name, data in photographs.items()]
    table = pa.table({"image": images, "label": pa.array(range(len(images)), pa.int16())})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=3)
    go(
        input=str(tmp_path / "t.parquet"),
        output=str(tmp_path / "out"),
        bytes_column="image",
        carry=["label"],
    )
    found = rows(str(tmp_path / "out"))
    assert [row["label"] for row in found] == list(range(len(images)))
    assert [row["image_bytes"] for row in found] == [len(data) for data in photographs.values()]
    (written,) = tables(str(tmp_path / "out")).values()
    assert written.schema.field("label").type == pa.int16()
    assert written.column_names[-1] == "label"


def test_the_record_explains_the_run_and_no_actor_outlives_it(
    cluster: None, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("\n".join([*map(str, folder.iterdir())] * 2))
    summary = go(Unending, input=str(tmp_path / "list.txt"), output=str(tmp_path / "out"))
    content = record(tmp_path / "out")
    (attempt,) = content["attempts"]
    assert summary.duplicates == content["counts"]["duplicates"] == len(list(folder.iterdir()))
    assert content["counts"]["ok"] == summary.images and content["config"]["input"]
    assert len(content["weights"]["sha256"]) == 64
    assert {"torch", "ray", "pyarrow", "python"} <= set(attempt["versions"])
    assert attempt["images"] == summary.images and attempt["bytes_read"] > 100_000
    assert {"wall", "list", "fetch", "decode", "forward", "write"} <= set(attempt["seconds"])

    # actors left over would count among the workers that Ray keeps, and each task start a process
    deadline = time.monotonic() + 30
    while left := [
        pid
        for stage in (r"Coordinator(\.|$)", "Fetch", "Detector")
        for pid in chaos.processes(stage, chaos.tree([os.getpid()]))
    ]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_dry_run(
    cluster: None, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        config = Config(input=str(folder), output=str(tmp_path / "out"), weights="random:0")
        assert run(config, dry_run=True) is None
    assert f"{len(list(folder.iterdir()))} images" in caplog.text and "UNTRAINED" in caplog.text
    assert not (tmp_path / "out").exists()


def test_two_runs_at_once(cluster: None, folder: Path, tmp_path: Path) -> None:
    class Nested(PixelEngine): ...

    options: dict[str, Any] = {"input": str(folder), "output": str(tmp_path / "out")}
    fs, root = runner.storage.filesystem(options["output"])
    with (
        runner.Lease(fs, f"{root}/_run/lease.json", options["output"]),
        pytest.raises(UsageError, match="another run .* is writing"),
    ):
        go(**options)


def test_what_the_cluster_cannot_run(cluster: None, folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"input": str(folder), "output": str(tmp_path / "out")}
    with pytest.raises(UsageError, match="the cluster has no GPU; pass --device cpu"):
        go(**options, device="cuda")
    with pytest.raises(UsageError, match="too small to ever start: a replica needs 2 CPUs"):
        go(**options, cpus_per_replica=2)
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written(
    cluster: None, bucket: str, folder: Path, tmp_path: Path, no_rights: None
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot (read|write to) .*file.*NotADirectoryError"):
        go(input=str(folder), output=str(tmp_path / "file"))
    with pytest.raises(UsageError, match="cannot read .*run.json: no permission"):
        go(input=str(folder), output=f"s3://{bucket}/out")


def test_images_of_equal_name(folder: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (10, 10), "white").save(buffer, "PNG")
    for place in ("a", "b"):
        (folder / place).mkdir()
        (folder / place / "same.png").write_bytes(buffer.getvalue())
    config = Config(input=f"{folder}/*/same.png", output=str(tmp_path / "out"))
    assert runner.manifest.count(config).rows == 2
