"""Metrics as Prometheus gets them from Ray, and the line a minute."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import ray

from pipeline import Config, run
from pipeline.cluster.coordinator import State
from pipeline.driver import metrics
from pipeline.driver.metrics import Metrics
from pipeline.driver.progress import Pace
from tests.support.engines import PixelEngine
from tests.support.scraping import scraped


def test_what_prometheus_sees(cluster: None, folder: Path, tmp_path: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"<html>")
    output = tmp_path / "out"
    summary = run(Config(input=str(folder), output=str(output), weights="random:0"), PixelEngine)
    assert summary
    run_id = json.loads((output / "_run" / "run.json").read_text())["run_id"]
    deadline = time.monotonic() + 60
    while ("images_total", run_id, "") not in (found := scraped(ray.nodes())):
        assert time.monotonic() < deadline, sorted(found)
        time.sleep(1)
    one = {(name, tag): value for (name, run, tag), value in found.items() if run == run_id}
    assert one["images_total", ""] == 9 and one["written_total", ""] == 9
    assert one["detections_total", ""] == summary.detections
    assert one["errors_total", "not_an_image"] == 1
    assert one["bytes_read_total", ""] == sum(file.stat().st_size for file in folder.iterdir())
    assert one["images_left", ""] == 0 and one["images_per_second", ""] >= 0
    assert one["micro_batch_fill", ""] == 1
    seconds = {tag: value for (name, tag), value in one.items() if name == "stage_seconds_total"}
    assert set(seconds) == {"fetch", "decode", "queue", "forward", "write"}
    assert all(value > 0 for value in seconds.values())


def test_a_line_a_minute(
    cluster: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[dict[str, Any]] = []
    kept = Metrics("a-run", 8, published.append)
    state = State(sums=Counter(forwards=2, forwarded=12, detections=5, bytes_read=7))
    state.codes["corrupt"] = 3
    with caplog.at_level("INFO"):
        kept.update(state, Pace(40, 100, 2.0))
        assert not caplog.text
        kept.told -= metrics.LINE_SECONDS
        kept.update(state, Pace(50, 100, 2.0, Counter(corrupt=1)))
    line = json.loads(caplog.messages[-1].removeprefix("metrics   "))
    assert line == published[-1]
    assert (line["images"], line["images_left"], line["seconds_left"]) == (50, 50, 25)
    assert line["errors"] == {"corrupt": 4} and line["micro_batch_fill"] == 0.75
    monkeypatch.setattr(sys, "stderr", Mock(isatty=lambda: True))
    kept.told -= metrics.LINE_SECONDS
    kept.update(state, Pace(60, 100, 2.0))
    assert "60" not in caplog.text and published[-1]["images"] == 60  # a person has the live line
    left = Mock()
    kept.gauges["seconds_left"] = left
    kept.update(State(), Pace(50, 100, 0.0))  # the coordinator began anew
    assert published[-1]["seconds_left"] is None and not left.set.called
