"""Our metrics beside pycocotools' own, and our output beside torchvision's own loop."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jobs import evaluate as job
from pipeline import Config
from pipeline.images.decode import decode, read_header
from pipeline.labels import classes
from pipeline.labels.annotations import load_truth
from pipeline.labels.evaluate import METRICS, evaluate
from pipeline.labels.match import match
from pipeline.labels.output import open_output
from pipeline.network.build import build
from pipeline.network.weights import resolve
from pipeline.store import objects
from tests.support import synthetic
from tests.support.instances import CONTIGUOUS, instances
from tests.support.outputs import rows


def reference(truth: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    """The twelve numbers by pycocotools' documented way."""
    annotations = [box | {"id": n} for n, box in enumerate(truth["annotations"], start=1)]
    known = COCO()
    known.dataset = truth | {"annotations": annotations}
    known.createIndex()
    done = COCOeval(known, known.loadRes(results), "bbox")
    done.evaluate()
    done.accumulate()
    done.summarize()
    return [float(value) for value in done.stats]


def results(found: list[dict[str, Any]], ids: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": row["image_id"] * 7 + 3,
            "category_id": ids[box["label"]],
            "bbox": [
                box["xmin"],
                box["ymin"],
                box["xmax"] - box["xmin"],
                box["ymax"] - box["ymin"],
            ],
            "score": box["score"],
        }
        for row in found
        for box in row["detections"] or []
    ]


@pytest.mark.parametrize(
    "backend,group", [("hotcoco", 10**9), ("hotcoco", 500), ("pycocotools", 500)]
)
def test_the_same_numbers_as_pycocotools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, group: int
) -> None:
    if backend == "pycocotools":
        monkeypatch.setitem(sys.modules, "hotcoco", None)
    monkeypatch.setattr("pipeline.labels.evaluate.GROUP_BOXES", group)
    monkeypatch.setattr("pipeline.labels.evaluate.BATCH_IMAGES", 37)
    output = synthetic.write(tmp_path / "out", 200, rows_per_file=64)
    found = rows(str(output))
    truth = instances(tmp_path / "gt.json", found, CONTIGUOUS)
    expected = reference(truth, results(found, CONTIGUOUS))
    code = job.main(
        [str(output), "--annotations", str(tmp_path / "gt.json"), "--to", str(tmp_path / "ev")]
    )
    assert code == 0
    written = json.loads((tmp_path / "ev/metrics.json").read_text())
    assert written["backend"].startswith(backend)
    assert list(written["metrics"].values()) == pytest.approx(expected, abs=1e-12)
    assert expected[0] > 0.1
    table = pq.read_table(tmp_path / "ev/categories.parquet")
    assert table["name"].to_pylist() == list(synthetic.NAMES)
    assert sum(table["ground_truth"].to_pylist()) == sum(
        not box["iscrowd"] for box in truth["annotations"]
    )
    for entry in written["categories"]:  # a category alone is a data set of its own
        k = entry["id"]
        mine = {
            **truth,
            "categories": [{"id": k, "name": "x"}],
            "annotations": [box for box in truth["annotations"] if box["category_id"] == k],
        }
        alone = reference(mine, [r for r in results(found, CONTIGUOUS) if r["category_id"] == k])
        assert [entry[name] for name in METRICS] == pytest.approx(alone, abs=1e-12)


def test_the_same_numbers_as_torchvisions_own_loop(
    detected: Config, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    weights = resolve(detected, objects.read)
    network = build(weights.state, weights.options)
    ids = {name: label for label, name in weights.categories.items()}
    by_torchvision = []
    for number, name in enumerate(sorted(photographs)):
        pixels = decode(read_header(photographs[name], 10**9))
        tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255
        with torch.no_grad():
            found = network([tensor])[0]
        boxes = [
            dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
            | {"label": weights.categories[label], "score": score}
            for box, label, score in zip(
                found["boxes"].tolist(),
                found["labels"].tolist(),
                found["scores"].tolist(),
                strict=True,
            )
        ]
        by_torchvision.append({"image_id": number, "image_uri": name, "detections": boxes})
    truth = instances(tmp_path / "gt.json", by_torchvision, ids)
    expected = reference(truth, results(by_torchvision, ids))
    output = open_output(detected.output)
    known = load_truth(str(tmp_path / "gt.json"))
    ours = evaluate(known, match(output, known, classes.choose(output.categories)))
    # sums are made in another order, which may move a score beyond its neighbour's
    for value, other in zip(ours.metrics.values(), expected, strict=True):
        assert value == (None if other == -1 else pytest.approx(other, abs=0.01))
    assert ours.metrics["AP"] and ours.metrics["AP"] > 0.1


def evaluated(tmp_path: Path, *flags: str) -> dict[str, Any]:
    arguments = [str(tmp_path / "out"), "--annotations", str(tmp_path / "gt.json"), *flags]
    assert job.main([*arguments, "--to", str(tmp_path / "ev")]) == 0
    return dict(json.loads((tmp_path / "ev/metrics.json").read_text()))


def test_images_on_one_side_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = synthetic.write(tmp_path / "out", 120)
    found = rows(str(output))
    truth = instances(tmp_path / "gt.json", found[:110], CONTIGUOUS)
    truth["images"] += [{"id": 100_000 + n, "file_name": f"absent-{n}.jpg"} for n in range(30)]
    truth["annotations"].append(
        {
            "id": 9,
            "image_id": 100_000,
            "category_id": 0,
            "bbox": [0, 0, 9, 9],
            "area": 81,
            "iscrowd": 0,
        }
    )
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    everything = evaluated(tmp_path)
    printed = capsys.readouterr().out
    assert everything["absent"]["count"] == 30 and everything["images"] == 140
    assert everything["without_truth"]["count"] == 10
    assert everything["failed"] == 1
    for line in (
        "30 annotated images have no row",
        "10 images of the run",
        "1 annotated images failed",
    ):
        assert line in printed
    assert list(everything["metrics"].values()) == pytest.approx(
        reference(truth, results(found[:110], CONTIGUOUS)), abs=1e-12
    )
    present = evaluated(tmp_path, "--present-only")
    assert present["images"] == 110
    assert present["metrics"]["AR100"] > everything["metrics"]["AR100"]


def test_classes_are_matched_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = synthetic.write(tmp_path / "out", 60)
    ids = {"Person": 5, "bicycle": 1, "vehicle": 9, "dog": 2, "zebra": 4, "cup": 77}
    renamed = [
        row
        | {
            "detections": [
                box
                | {"label": {"person": "Person", "car": "vehicle"}.get(box["label"], box["label"])}
                for box in row["detections"] or []
            ]
        }
        for row in rows(str(output))
    ]
    truth = instances(tmp_path / "gt.json", renamed, ids)
    plain = evaluated(tmp_path)
    cars = sum(box["label"] == "vehicle" for row in renamed for box in row["detections"])
    assert plain["left_out"] == {"car": cars}
    assert f"{cars:,} detections of 'car', which is not a category" in capsys.readouterr().out
    (tmp_path / "classes.yaml").write_text("person:\nbicycle:\ncar: vehicle\ndog:\ncup:\n")
    mapped = evaluated(tmp_path, "--classes", str(tmp_path / "classes.yaml"))
    # the export takes the run's names, where the annotations write one otherwise
    how = f"--to export --classes {tmp_path}/classes.yaml --category person="
    assert how in capsys.readouterr().out
    assert mapped["left_out"] == {}
    assert list(mapped["metrics"].values()) == pytest.approx(
        reference(truth, results(renamed, ids)), abs=1e-12
    )
    assert [c["AP"] for c in mapped["categories"] if c["name"] == "zebra"] == [None]


def test_no_detection_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = synthetic.write(tmp_path / "out", 20)
    instances(tmp_path / "gt.json", rows(str(output)), CONTIGUOUS)
    synthetic.write(tmp_path / "none" / "out", 20, boxes=0)
    (tmp_path / "gt.json").rename(tmp_path / "none" / "gt.json")
    assert evaluated(tmp_path / "none")["metrics"]["AP"] == 0
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    assert evaluated(tmp_path / "none")["metrics"]["AP"] == 0


def test_image_key(folder: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    # as pandas writes whole numbers in a column that has a null
    ids = pa.array([None, *(float(n) for n in range(501, 508))])
    output = synthetic.write(tmp_path / "out", 8, input=str(folder), names=names)
    (file,) = output.glob("detections/*/*")
    synthetic.rewrite(file, lambda table: table.append_column("coco_id", ids))
    truth = {
        "images": [{"id": 500 + n, "file_name": f"{n}.x"} for n in range(8)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"id": 1, "image_id": 503, "category_id": 1, "bbox": [0, 0, 5, 5]}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    found = evaluated(tmp_path, "--image-key", "coco_id")
    assert found["absent"]["count"] == found["without_truth"]["count"] == 1
