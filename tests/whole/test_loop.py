"""The whole way round over a shard of images: detect, export, edit, review, train, and detect with
what was trained.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest
import yaml

from jobs import detect, diff, evaluate, export, review, train
from pipeline.labels.output import open_output
from tests.support import drawn, packed
from tests.support.outputs import rows

IMAGES = 5
NEW = "forklift"


def annotate(path: Path) -> None:
    """Of the first three images: a box gets a class of its own, one goes, one is drawn."""
    tree = ElementTree.parse(path)
    relabelled, deleted, drawn_on = tree.findall("image")[:3]
    relabelled.findall("box")[0].set("label", NEW)
    deleted.remove(deleted.findall("box")[0])
    corners = {"xtl": "1", "ytl": "2", "xbr": "9", "ybr": "12"}
    ElementTree.SubElement(drawn_on, "box", {"label": "n5", "occluded": "0", **corners})
    tree.write(path)


def counts(found: list[dict[str, Any]]) -> Counter[str]:
    return Counter(box["label"] for row in found for box in row["detections"])


def test_the_whole_way_round(
    cluster: None, calibrated_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn.draw(tmp_path, images=IMAGES)
    files = [(path.name, path.read_bytes()) for path in sorted((tmp_path / "images").iterdir())]
    (tmp_path / "shard.tar").write_bytes(packed.tar(files))
    first, second, names = (str(tmp_path / name) for name in ("first", "second", "names.txt"))
    Path(names).write_text("\n".join(f"n{label}" for label in range(1, 91)))
    options = drawn.TINY | {"box_score_thresh": 0.3, "trainable_backbone_layers": 0}
    config = {"weights": calibrated_file, "categories": names, "model": options}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    images, given = ["--input", f"{tmp_path}/shard.tar"], ["--config", f"{tmp_path}/run.yaml"]
    depth = "--depth-range 0 1000".split()  # which 8-bit images do not heed
    assert detect.main([*images, *given, *depth, "--output", first]) == 0
    shown = rows(first)

    exported, reviewed = tmp_path / "cvat", tmp_path / "reviewed"
    flags = ["--format", "cvat", "--score-threshold", "0.3"]
    assert export.main([first, *flags, "--to", str(exported)]) == 0
    annotate(exported / "annotations.xml")
    assert review.main([first, "--corrections", str(exported), "--to", str(reviewed)]) == 0
    corrections = pq.read_table(reviewed / "corrections.parquet").to_pylist()
    sources = Counter(box["source"] for row in corrections for box in row["detections"])
    boxes = sum(counts(shown).values())
    assert sources == {"kept": boxes - 2, "relabelled": 1, "added": 1}
    assert [row["edits"] for row in corrections] == [1, 1, 1, 0, 0]

    # so little that what the network knew stays as it was
    recipe = "--epochs 1 --batch 2 --holdout 0 --lr 1e-9 --augment none".split()
    flags = [*given, *recipe, "--to", f"{tmp_path}/trained"]
    assert train.main([f"{reviewed}/corrections.parquet", *flags]) == 0
    assert " ".join(depth) in capsys.readouterr().out
    record = json.loads((tmp_path / "trained/train.json").read_text())
    assert record["identity"]["depth_range"] == [0, 1000]
    assert (record["images"], record["boxes"]) == (IMAGES, boxes)
    assert record["categories"]["5"] == "n5" and record["categories"]["91"] == NEW

    checkpoint = f"{tmp_path}/trained/checkpoint.safetensors"
    assert detect.main([*images, "--weights", checkpoint, "--output", second]) == 0
    options = open_output(second).detector["options"]
    assert options["min_size"] == drawn.TINY["min_size"] and options["num_classes"] == 92
    assert open_output(second).categories == {int(k): v for k, v in record["categories"].items()}

    told = tmp_path / "diff.json"
    assert diff.main([first, second, "--score-threshold", "0.3", "--json", str(told)]) == 0
    found = json.loads(told.read_text())
    assert found["images"]["compared"] == IMAGES and not found["boxes"]["relabelled"]
    assert found["boxes"]["same"] > 0.8 * boxes > 5

    measured = [second, "--annotations", str(reviewed), "--to", f"{tmp_path}/metrics"]
    assert evaluate.main(measured) == 0
    metrics = json.loads((tmp_path / "metrics/metrics.json").read_text())
    there = {entry["name"]: entry["ground_truth"] for entry in metrics["categories"]}
    assert Counter(there) == counts(shown) + Counter({NEW: 1, "n5": 1}) - counts(gone(shown))
    assert metrics["images"] == IMAGES and metrics["absent"]["count"] == 0
    assert metrics["metrics"]["AP"] == pytest.approx(1, abs=0.2)


def gone(shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The boxes whose class was changed, or that were deleted."""
    return [{"detections": row["detections"][:1]} for row in shown[:2]]
