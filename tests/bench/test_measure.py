"""The benchmark of the engine, with a network and images so small that it says nothing."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights

from jobs import bench
from pipeline.bench import mix, standin
from pipeline.bench.extent import EXTENTS, Extent
from pipeline.bench.feed import Feed, bucketed, in_order
from pipeline.bench.matching import match
from pipeline.network.build import build
from pipeline.network.contract import Boxes
from pipeline.network.cost import Cost

SMALL = {"min_size": 64, "max_size": 128, "rpn_post_nms_top_n_test": 40}
TINY = Extent(
    "cpu",
    images=3,
    batch=2,
    micro_batch=1,
    rounds=2,
    seconds=0,
    piped=16,
    rows_per_file=8,
    model=SMALL,
    threads=1,
)
ROW_FIELDS = {
    "name",
    "images_per_second",
    "ratio_to_eager",
    "matched",
    "matched_loosely",
    "share_of_floor",
    "counts_differ",
    "peak_memory",
    "warm_up_seconds",
}


def test_the_mix_is_of_cocos_sizes() -> None:
    assert sum(mix.SIZES.values()) == pytest.approx(1, abs=0.01)
    counts = Counter(mix.sizes(1000))
    for size, share in mix.SIZES.items():
        assert counts[size] == pytest.approx(1000 * share, abs=5)
    assert mix.sizes(100) == mix.sizes(100) != mix.sizes(100, seed=1)


def test_images_are_jpegs_that_a_seed_decides() -> None:
    images = mix.encoded(4)
    assert images == mix.encoded(4) != mix.encoded(4, seed=1)
    for data, (width, height) in zip(images, mix.sizes(4), strict=True):
        image = Image.open(io.BytesIO(data))
        assert (image.format, image.size) == ("JPEG", (width, height))
        # bits a pixel as photographs have them
        assert 1 < 8 * len(data) / (width * height) < 8


def test_standin_weights_are_calibrated_and_a_seed_decides_them() -> None:
    options = {**SMALL, "rpn_post_nms_top_n_test": 100}
    weights = standin.weights(options)
    assert weights.sha256 == standin.weights(options).sha256
    assert weights.sha256 != standin.weights(SMALL, seed=1).sha256
    model = build(weights.state, weights.options)
    pixels = mix.picture(640, 480, np.random.default_rng(5))
    passed: list[torch.Tensor] = []
    model.roi_heads.box_predictor.cls_score.register_forward_hook(
        lambda module, given, logits: passed.append(logits)
    )
    with torch.inference_mode():
        (found,) = model([torch.tensor(pixels).permute(2, 0, 1) / 255])
    candidates = int((passed[0].softmax(-1)[:, 1:] > 0.05).sum())
    assert standin.CANDIDATES / 3 < candidates < standin.CANDIDATES * 3
    assert 5 < len(found["boxes"]) <= 100
    assert passed[0][:, 1:].std() == pytest.approx(3, rel=0.5)


def test_flops_and_shapes_are_those_of_the_network() -> None:
    cost = Cost({})
    assert cost.padded_shape(480, 640) == (800, 1088)
    assert cost.padded_shape(640, 427) == (1216, 800)
    # torchvision's own count is of multiplications, for a square image
    multiplications = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["_ops"]
    assert cost.gflop((800, 800)) == pytest.approx(2 * multiplications, rel=1e-4)
    assert Cost({"min_size": 320, "max_size": 533}).padded_shape(480, 640) == (320, 448)


def test_batches_hold_each_image_once() -> None:
    shapes = [(1, 1), (2, 2), (1, 1), (3, 3), (1, 1), (2, 2)]
    assert bucketed(shapes, 2) == [[0, 2], [1, 5], [3], [4]]
    assert in_order(5, 2) == [[0, 1], [2, 3], [4]]


def test_a_feed_gives_the_decoded_images_in_order() -> None:
    images = mix.encoded(12)
    feed = Feed(images, threads=2)
    batches = in_order(12, 5)
    for batch, (given, pixels) in zip(batches, feed(batches), strict=True):
        assert given == batch
        for place, found in zip(batch, pixels, strict=True):
            expected = np.asarray(Image.open(io.BytesIO(images[place])))
            np.testing.assert_array_equal(found, expected)


def boxes(*rows: tuple[float, float, float, float, int, float]) -> Boxes:
    values = np.array(rows, np.float32).reshape(-1, 6)
    return Boxes(values[:, :4], values[:, 4].astype(np.int64), values[:, 5])


def test_matching() -> None:
    theirs = boxes((0, 0, 100, 100, 1, 0.9), (0, 0, 50, 50, 2, 0.5), (0, 0, 50, 50, 2, 0.5))
    assert match([theirs], [theirs]) == match([boxes()], [boxes()])
    assert match([theirs], [theirs]).tight == 1
    # one of ours pairs with one of theirs only
    found = match([boxes((0, 0, 50, 50, 2, 0.5))], [theirs])
    assert (found.tight, found.loose, found.counts_differ) == (1 / 3, 1 / 3, 1)
    other_label = boxes((0, 0, 100, 100, 3, 0.9), (9, 9, 50, 50, 2, 0.5), (0, 0, 50, 50, 2, 0.502))
    found = match([other_label], [theirs])
    assert (found.tight, found.loose, found.counts_differ) == (0, 1 / 3, 0)
    # of two that are near enough, the nearer one, which leaves the other one its own
    theirs = boxes((0, 0, 100, 100, 1, 0.9), (0, 0, 100, 95, 1, 0.9))
    assert match([boxes((0, 0, 100, 95, 1, 0.9), (0, 0, 100, 100, 1, 0.9))], [theirs]).loose == 1


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What the command prints, and its figures."""
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    code = f"""
import sys
sys.modules["ray"] = None
import torch
torch.cuda.is_available = lambda: False
torch.set_num_threads(1)
from jobs import bench
from pipeline.bench.plan import PLANS, Plan
PLANS["cpu", True] = {TINY!r}
sys.exit(bench.main(["--quick", "--no-pipeline", "--json", {str(path)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(path.read_text())


def test_figures_without_ray(measured: tuple[str, dict[str, Any]]) -> None:
    _, figures = measured
    assert "cores" in figures["device"]
    rows = {row["name"]: row for row in figures["rows"]}
    assert list(rows) == ["eager", "arrival", "bucketed", "engine"]
    for row in rows.values():
        assert row.keys() >= ROW_FIELDS
        assert len(row["rounds"]) == TINY.rounds
        assert min(row["rounds"]) <= row["images_per_second"] <= max(row["rounds"])
        assert min(row["share_of_floor"], row["ratio_to_eager"]) > 0
        assert 0 <= row["matched"] <= row["matched_loosely"] <= 1
    assert figures["reference_detections"] > 10
    assert (rows["eager"]["matched"], rows["eager"]["ratio_to_eager"]) == (1, 1)
    assert rows["engine"]["matched"] == 1
    assert figures["pipeline"] is None


def test_the_table(measured: tuple[str, dict[str, Any]]) -> None:
    text, figures = measured
    assert figures["device"] in text and "TFLOP/s: fp32 " in text
    assert f"{figures['gflop_per_image']:.0f} GFLOP an image" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(figures["rows"])
    assert len({line.count("|") for line in lines}) == 1
    assert "| 100.00% | 100.00% | 0 |" in lines[2]
    assert "No autocast row" in text and "End to end" not in text


@pytest.mark.parametrize(
    "flags,complaint",
    [
        ("--qiuck", "unknown argument '--qiuck' (did you mean '--quick'?)"),
        ("--min-size 8", "--min-size must be at least 32, not 8"),
        ("--max-size many", "invalid int value: 'many'"),
        ("--json /nowhere/x.json", "cannot write --json /nowhere/x.json"),
        ("--json {here}", "cannot write --json {here}"),
        ("--weights {here}/none.pth", "none.pth: it does not exist"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    tmp_path: Path, flags: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(flags.format(here=tmp_path).split()) == 2
    out, err = capsys.readouterr()
    assert complaint.format(here=tmp_path) in err and err.count("\n") == 1 and out == ""


def test_without_ray_there_is_no_run_from_end_to_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert bench.main([]) == 2
    assert "pass --no-pipeline" in capsys.readouterr().err


def test_every_device_has_both_plans() -> None:
    assert set(EXTENTS) == {
        (device, quick) for device in ("cuda", "cpu") for quick in (True, False)
    }
    assert all(plan.device == device for (device, _), plan in EXTENTS.items())


@pytest.mark.soak
def test_the_whole_command(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    flags = ["--quick", "--min-size", "64", "--max-size", "128", "--json", str(path)]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.bench", *flags], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Pipeline efficiency" in done.stdout
    figures = json.loads(path.read_text())
    run, engine = figures["pipeline"], figures["rows"][-1]
    assert run["images"] == figures["plan"]["piped"]
    assert 0 < run["images"] / run["seconds"] < run["images_per_second"]
    expected = run["images_per_second"] / engine["images_per_second"]
    assert run["efficiency"] == pytest.approx(expected)
