"""What a run will take: the arithmetic of the forecast, and the forecast itself."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jobs import plan as job
from pipeline import Config, UsageError, run
from pipeline.cluster import connection
from pipeline.cluster.connection import place
from pipeline.cluster.placement import Placement
from pipeline.forecast import estimates, planning, text
from pipeline.forecast.estimates import Rates
from pipeline.forecast.prices import Machine, read_prices
from pipeline.forecast.sample import draw
from pipeline.forecast.trial import Trial, _too_few, _views, try_out
from pipeline.inputs.enumeration import Counted
from pipeline.network.cost import Cost
from pipeline.network.weights import resolve
from pipeline.stages.micro_batches import Outcome
from pipeline.stages.views import cut
from pipeline.store import objects
from pipeline.words import rate
from tests.support import tiles
from tests.support.outputs import rows

PLACEMENT = Placement("cpu", 2, 0, 2, 0, 2, 1, 1, 64)
TRIAL = Trial(
    placement=PLACEMENT,
    images=10,
    rows=pa.table(
        {
            "image_id": range(10),
            "image_bytes": [50_000] * 9 + [None],
            "width": [640] * 9 + [None],
            "height": [480] * 9 + [None],
            "num_detections": [2] * 9 + [None],
        }
    ),
    views=1.0,
    errors=Counter(not_found=1),
    start_up=10.0,
    fetch_seconds=0.05,
    decode_seconds=0.01,
    forward_seconds=0.5,
    write_seconds=0.001,
)
CONFIG = Config(input="s3://b/in/", output="o")
L4 = Machine("g6.2xlarge", "L4", 1, 8, 60, 1.0)


def test_rates_and_their_bottleneck() -> None:
    rates = estimates.here(TRIAL, CONFIG)
    assert rates == Rates(fetch=640, decode=200, network=2, write=1000)
    assert (rates.bottleneck, rates.least) == ("network", 2)
    assert estimates.run_seconds(1000, rates, 2, 10) == 260


def test_a_plan_waits_for_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an autoscaler that would rent as many as the run wants."""
    nodes = [{"CPU": 4.0}]
    asked = []

    def await_gpu(config: Config) -> None:
        asked.append(config.replicas)
        nodes.append({"CPU": 4.0, "GPU": 1.0})

    def draw(config: Config, size: int) -> None:
        assert (config.replicas, size) == (1, 400)
        raise KeyboardInterrupt

    monkeypatch.setattr(connection, "connect", lambda: None)
    monkeypatch.setattr(connection, "alive", lambda: nodes)
    monkeypatch.setattr(connection, "await_gpu", await_gpu)
    monkeypatch.setattr(planning, "resolve", lambda *_: None)
    monkeypatch.setattr(planning, "draw", draw)
    config = dataclasses.replace(CONFIG, device="cuda", replicas=16)
    with pytest.raises(UsageError, match="--scratch is missing"):
        planning.plan(config, read_prices())
    assert not asked
    with pytest.raises(KeyboardInterrupt):
        planning.plan(config, read_prices(), shared=True)
    assert asked == [1]


def test_other_machines() -> None:
    rates = estimates.elsewhere(L4, TRIAL, CONFIG, {}, gflop=600, tried=None)
    assert (rates.network, rates.decode) == (90, 400)  # nine tenths of 60 TFLOP/s; four cores
    tried = dataclasses.replace(L4, tflops=30)
    assert estimates.elsewhere(L4, TRIAL, CONFIG, {}, gflop=600, tried=tried).network == 4
    t4 = dataclasses.replace(L4, tflops=8, tf32=False)
    rates = estimates.elsewhere(t4, TRIAL, CONFIG, {}, gflop=600, tried=L4)
    # of its peak without TF32 a third of what half precision reaches
    assert rates.network == pytest.approx(2 * 8 / 60 / 3)
    eight = dataclasses.replace(L4, gpus=8, cpus=12, dollars_per_hour=20)
    assert estimates.elsewhere(eight, TRIAL, CONFIG, {}, gflop=600, tried=None).decode == 100
    assert estimates.machine_dollars(L4, 4, 1800) == 2
    assert estimates.machine_dollars(eight, 9, 3600) == 40
    asked = estimates.request_dollars(1_000_000, 4000, read_prices().requests)
    assert asked == pytest.approx(0.4 + 1000 * 5e-6 + 250 * 5e-6)


@pytest.mark.parametrize(
    "precision,side,tf32,share",
    [
        ("auto", 800, True, "fp16"),
        ("auto", 100, True, "tf32"),
        ("fp16", 100, True, "fp16"),
        ("fp32", 800, True, "tf32"),
        ("auto", 800, False, "fp32"),
    ],
)
def test_what_another_machine_multiplies_with(
    precision: str, side: int, tf32: bool, share: str
) -> None:
    config = dataclasses.replace(CONFIG, precision=precision)
    machine = dataclasses.replace(L4, tf32=tf32)
    rates = estimates.elsewhere(machine, TRIAL, config, {"min_size": side}, gflop=600, tried=None)
    assert rates.network == pytest.approx(estimates.SHARES[share] * 100)


def test_what_is_said() -> None:
    config = Config(input="i", output="o", weights="random:0")
    weights = resolve(config, objects.read)
    counted = Counted(rows=1_000_000)
    most = text.text(CONFIG, weights, Counted(rows=10**9), TRIAL, read_prices(), None)
    assert all(len(line) <= 100 and "  " in line for line in most.splitlines() if "xlarge" in line)
    said = text.text(CONFIG, weights, counted, TRIAL, read_prices(), None)
    assert "images      1,000,000, about 50 GB" in said
    of_videos = dataclasses.replace(CONFIG, fps=1)
    videos = text.text(of_videos, weights, counted, TRIAL, read_prices(), None)
    assert (
        "images      1,000,000, about 50 GB, counting frames of videos as their decoded pixels"
        in videos
    )
    assert "errors      10.0% (not_found 1)\n            more than --max-error-rate 0.05" in said
    assert "sizes       640x480 90%" in said and "detections  1.8 per image" in said
    assert "  network          2.0   the bottleneck" in said
    assert "all images here: 2 d 21 h, 10 s of it to start" in said
    assert "prices: from memory, not looked up; give your own table with --prices FILE" in said
    assert all(len(line) <= 100 for line in said.splitlines())
    assert (
        "g6.2xlarge" in said
        and "as measured on an H200" in said
        and "requests to the bucket, one read per image: $0.4" in said
    )
    assert "--cpus-per-replica" not in said and "views" not in said
    # a size that the checkpoint brings, too small for half precision
    of_128 = dataclasses.replace(weights, options=weights.options | {"min_size": 128})
    said = text.text(CONFIG, of_128, counted, TRIAL, read_prices(), None)
    (gflop,) = re.findall(r"at (\d+) GFLOP per image", said)
    (per_gpu,) = re.findall(r"g6\.2xlarge +(\d+) ", said)
    assert int(per_gpu) == pytest.approx(0.43 * 60_000 / int(gflop), rel=0.02)
    tiled = dataclasses.replace(CONFIG, tile=1024)
    slides = pa.table({"height": [12_000], "width": [12_000]})
    trial = dataclasses.replace(TRIAL, views=_views(tiled, slides))
    said = text.text(tiled, weights, counted, trial, read_prices(), None)
    assert "\nviews       226.0 per image: the whole of it, and its tiles\ndetections" in said
    on_gpu = dataclasses.replace(PLACEMENT, gpus=1)
    gpu = dataclasses.replace(TRIAL, placement=on_gpu, forward_seconds=0.0025)
    said = text.text(CONFIG, weights, counted, gpu, read_prices(), L4)
    assert "network: as on this L4" in said and "--cpus-per-replica 4, instead of 2" in said


def test_tiles_are_computed_with(tmp_path: Path) -> None:
    """And the whole of an image, by the shapes that a run gives to the network."""
    config = dataclasses.replace(CONFIG, weights="random:0", tile=200, tile_overlap=0.3)
    weights = resolve(config, objects.read)
    views = cut(Outcome(0, "u"), np.empty((480, 640, 3), np.uint8), config)
    cost = Cost(weights.options)
    shapes = [cost.padded_shape(*view.pixels.shape[:2]) for view in views]
    gflop = 0.8 * sum(cost.gflop(shape) for shape in shapes)  # two in ten fail
    rows = TRIAL.rows.to_pylist()
    rows[8] |= {"width": 9000, "height": 2, "num_detections": None}  # too thin for the network
    trial = dataclasses.replace(TRIAL, views=len(views), rows=pa.Table.from_pylist(rows))
    said = text.text(config, weights, Counted(rows=10), trial, read_prices(), None)
    assert f"at {gflop:,.0f} GFLOP per image" in said
    assert "\nviews       16.0 per image: the whole of it, and its tiles\n" in said


def test_why_nothing_was_measured() -> None:
    said = _too_few(40, 99, Counter(empty=30, too_thin=10))
    assert "40 of 40 images failed: empty 30, too_thin 10, and" in said
    assert said.endswith("; give a larger --sample")
    said = _too_few(1, 1, Counter())
    assert "0 of 1 image failed, and the first forward of a replica does not count" in said
    assert said.endswith("the input has no other images to try")


def test_the_command(cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With tiles, of which an image of twice their side has four."""
    images = Path(tiles.write(tmp_path / "images", range(200)))
    for number in range(0, 200, 4):
        (images / tiles.name(number)).write_bytes(b"<html>")
        (images / tiles.name(number + 1)).write_bytes(tiles.tile(number + 1, 64))
    config = tmp_path / "run.yaml"
    config.write_text(f"input: {images}\nweights: random:0\nmodel: {MODEL}\n")
    flags = ["--tile", "32", "--tile-overlap", "0", "--scratch", str(tmp_path / "trial")]
    assert job.main(["--config", str(config), "--sample", "16", *flags]) == 0
    said = capsys.readouterr().out
    (trial,) = (tmp_path / "trial").iterdir()
    sides = [row["width"] for row in rows(str(trial)) if row["status"] == "ok"]
    views = sum({32: 1, 64: 5}[side] for side in sides)
    assert f"views       {views / len(sides):.1f} per image" in said and 64 in sides
    (attempt,) = json.loads((trial / "_run/run.json").read_bytes())["attempts"]
    assert attempt["forwarded"] == views - 1  # but for the first one, which is slow
    seconds = attempt["seconds"]["forward"] / attempt["forwarded"] * views / 16
    assert f"  network   {rate(1 / seconds):>10}" in said and len(sides) < 16
    assert "images      200, " in said and "tried       16 images on 1 replica" in said
    assert "not_an_image" in said and "the bottleneck" in said
    assert job.main(["--config", str(config), "--sample", "0"]) == 2
    capsys.readouterr()
    assert job.main(["--input", str(tmp_path / "gone")]) == 2  # before weights are looked for
    assert f"{tmp_path}/gone" in capsys.readouterr().err.splitlines()[-1]


MODEL = "{min_size: 64, max_size: 64, rpn_post_nms_top_n_test: 20}"


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_forecast_holds(tmp_path: Path, cluster: None, folder: Path) -> None:
    """Within a fifth of what the run then takes: the network needs half a second an image."""
    images = tmp_path / "many"
    images.mkdir()
    for number in range(160):
        source = sorted(folder.iterdir())[number % 8]
        (images / f"{number:04d}{source.suffix}").write_bytes(source.read_bytes())
    model_options = {"min_size": 256, "max_size": 400, "rpn_post_nms_top_n_test": 300}
    config = Config(
        input=str(images), output=str(tmp_path / "trial"), weights="random:0", model=model_options
    )
    placement = place(config)
    sample = draw(config, 24)
    trial = try_out(config, resolve(config, objects.read), placement, sample)
    rates = estimates.here(trial, config)
    forecast_seconds = estimates.run_seconds(160, rates, placement.replicas, trial.start_up)
    started = time.monotonic()
    run(dataclasses.replace(config, output=str(tmp_path / "out")))
    took = time.monotonic() - started
    print(f"\nforecast {forecast_seconds:.0f} s, took {took:.0f} s")
    assert forecast_seconds == pytest.approx(took, rel=0.2)
