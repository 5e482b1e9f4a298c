"""Whole runs on a real Ray cluster: what goes in, what comes out, what a second run does."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

from pipeline import Config, UsageError, run
from pipeline.cluster import connection
from pipeline.driver import start
from pipeline.labels.verify import verify
from pipeline.outputs.layout import Layout
from tests.support import chaos
from tests.support.engines import PixelEngine, Unending
from tests.support.matching import assert_same, boxes_of, reference
from tests.support.outputs import by_name, files, rows, tables
from tests.support.runs import SMALL, go


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
    assert not verify(detected.output).breaches


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
    late = tmp_path / "out/detections/status=ok/part-00000-0001-000000000000-ffff.parquet"
    (some,) = (path for path in before if "status=ok" in path)
    late.write_bytes(before[some])  # by a writer that hung until now
    assert go(**options).processed == 0 and not late.exists()
    after = files(str(tmp_path / "out"))
    assert {path for path in after if "/run.json" not in path} == before.keys() - {"_run/run.json"}
    before = after
    with pytest.raises(
        UsageError, match="belongs to another run: --limit was not given and is now 3"
    ):
        go(**options, limit=3)
    with pytest.raises(UsageError, match="--min-size was not given and is now 99"):
        go(**options, model={"min_size": 99})
    with pytest.raises(UsageError, match="weights was .* choose another output"):
        run(Config(weights="random:1", **options), PixelEngine)
    assert files(str(tmp_path / "out")) == before


def test_carried_columns_and_embedded_bytes(
    cluster: None, photographs: dict[str, bytes], tmp_path: Path
) -> None:
    images = [{"bytes": data, "path": name} for name, data in photographs.items()]
    numbers = pa.array(range(len(images)), pa.int16())
    structs = [{"c": name} for name in photographs]
    table = pa.table({"image": images, "label": numbers, "a.b": structs})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=3)
    go(
        input=str(tmp_path / "t.parquet"),
        output=str(tmp_path / "out"),
        bytes_column="image",
        carry=["label", "a.b"],
    )
    found = rows(str(tmp_path / "out"))
    assert [row["label"] for row in found] == list(range(len(images)))
    assert [row["a.b"] for row in found] == structs
    assert [row["image_bytes"] for row in found] == [len(data) for data in photographs.values()]
    (written,) = tables(str(tmp_path / "out")).values()
    assert written.schema.field("label").type == pa.int16()
    assert written.column_names[-2:] == ["label", "a.b"]
    assert not verify(str(tmp_path / "out")).breaches


def test_the_record_explains_the_run_and_no_actor_outlives_it(
    cluster: None, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("\n".join([*map(str, folder.iterdir())] * 2))
    summary = go(Unending, input=str(tmp_path / "list.txt"), output=str(tmp_path / "out"))
    content = json.loads((tmp_path / "out/_run/run.json").read_text())
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


def test_dry_run_before_an_autoscaler_has_added_a_gpu(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "alive", lambda: [{"CPU": 4.0}])
    options: dict[str, Any] = {"input": str(folder), "output": str(tmp_path), "device": "cuda"}
    weights: Any = SimpleNamespace(
        model_id="", sha256="", trained=True, categories={1: "a"}, options={}
    )
    layout = Layout.of(str(tmp_path))
    with caplog.at_level(logging.INFO):
        start._preview(Config(**options, replicas=16), weights, layout, None)
    assert "replicas  16 on cuda, all of which wait for an autoscaler" in caplog.text
    with pytest.raises(UsageError, match="the cluster has no GPU"):
        start._preview(Config(**options), weights, layout, None)


def test_what_the_cluster_cannot_run(cluster: None, folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"input": str(folder), "output": str(tmp_path / "out")}
    with pytest.raises(UsageError, match="the cluster has no GPU; pass --device cpu"):
        go(**options, device="cuda")
    with pytest.raises(UsageError, match="too small for the run: a replica needs 2 CPUs"):
        go(**options, cpus_per_replica=2)
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written(
    cluster: None, bucket: str, folder: Path, tmp_path: Path, no_rights: None
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="output .*file is a file; give the name of a folder"):
        go(input=str(folder), output=str(tmp_path / "file"))
    with pytest.raises(UsageError, match="cannot read .*run.json: no permission"):
        go(input=str(folder), output=f"s3://{bucket}/out")
