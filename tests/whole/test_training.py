"""Trainings whose checkpoint is used by a run, and whose workers die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs import evaluate, train
from pipeline import Config, run
from pipeline.labels.annotations import load_truth
from pipeline.training.examples import split
from pipeline.training.schedule import best
from tests.support import drawn
from tests.support.chaos import tree

WORKER = "ray::RayTrainWorker"
FROZEN = {"trainable_backbone_layers": 0}


def arguments(folder: Path, weights: str, options: dict[str, Any], *more: str) -> list[str]:
    """Of a training on the drawings in a folder."""
    options = drawn.TINY | {"box_score_thresh": 0.01} | options
    config = yaml.safe_dump({"weights": weights, "model": options})
    (folder / "run.yaml").write_text(config)
    words = f"{folder}/truth.json --images {folder}/images --config {folder}/run.yaml --to"
    flags = f"{folder}/to --new-predictor --holdout 0.4 --batch 2 --augment none"
    return [*words.split(), *flags.split(), *more]


def test_a_run_finds_what_the_training_measured(cluster: None, tmp_path: Path) -> None:
    """The checkpoint is all that it is given."""
    drawn.draw(tmp_path / "data", images=6)
    assert train.main(arguments(tmp_path / "data", "random:0", {}, "--epochs", "2")) == 0
    folder = tmp_path / "data/to"
    record = json.loads((folder / "train.json").read_text())
    output, images = f"{tmp_path}/out", f"{tmp_path}/data/images"
    summary = run(Config(input=images, output=output, weights=f"{folder}/checkpoint.safetensors"))
    assert summary and summary.images == 6 and summary.detections
    truth = json.loads((tmp_path / "data/truth.json").read_text())
    _, others = split(load_truth(f"{tmp_path}/data/truth.json"), 0.4)
    held = set(others.ids)
    assert len(held) == record["held_out"] > 1
    truth["images"] = [image for image in truth["images"] if image["id"] in held]
    truth["annotations"] = [box for box in truth["annotations"] if box["image_id"] in held]
    drawn.write(tmp_path / "held.json", truth)
    flags = ["--annotations", f"{tmp_path}/held.json", "--to", f"{tmp_path}/metrics"]
    assert evaluate.main([output, *flags]) == 0
    found = json.loads((tmp_path / "metrics/metrics.json").read_text())["metrics"]
    assert found == pytest.approx(record["epochs"][best(record["epochs"]) - 1]["metrics"], abs=1e-6)
    assert found["AR100"] > 0


def started(folder: Path, weights: str) -> tuple[subprocess.Popen[str], Path]:
    """A training by two workers whose first epoch is done, and its record."""
    drawn.draw(folder / "data", images=6)
    more = ["--epochs", "4", "--patience", "4", "--workers", "2"]
    command = [sys.executable, "-m", "jobs.train"]
    process = subprocess.Popen(
        [*command, *arguments(folder / "data", weights, FROZEN, *more)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    record = folder / "data/to/train.json"
    while not (record.exists() and json.loads(record.read_text())["epochs"]):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)
    return process, record


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_worker_is_killed(tmp_path: Path, calibrated_file: str) -> None:
    """All of them go on after the last whole epoch, and the training comes to its end."""
    process, record = started(tmp_path, calibrated_file)
    began = json.loads(record.read_text())["epochs"][0]
    workers = [pid for pid, title in tree([process.pid]).items() if title.startswith(WORKER)]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    content = json.loads(record.read_text())
    assert [epoch["epoch"] for epoch in content["epochs"]] == [1, 2, 3, 4]
    assert content["epochs"][0] == began and content["finished"]
    assert (tmp_path / "data/to/checkpoint.safetensors").exists()


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_what_one_worker_raises_ends_all(tmp_path: Path, calibrated_file: str) -> None:
    """At once, in one line; here the first finds that another training has taken over."""
    process, record = started(tmp_path, calibrated_file)
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"attempt": "other"}))
    said, _ = process.communicate()
    assert process.returncode == 1 and "another training has taken over " in said, said
    # one of Ray's own threads fails where other clusters are on the machine
    tracebacks = [line for line in said.splitlines() if "Traceback" in line]
    assert all("PlacementGroupCleaner" in line for line in tracebacks), said
    assert "start again" not in said
    assert json.loads(record.read_text())["finished"] is None
