"""What people did to a run's boxes: each kind of edit, what is counted, what is written."""

from __future__ import annotations

import json
import re
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import evaluate
from jobs import review as job
from jobs.export import main as export
from pipeline.labels.annotations import load_truth
from pipeline.labels.review.pairs import pair
from pipeline.outputs.schema import DETECTION
from tests.support import outputs, redone, reviewed, synthetic
from tests.support.reviewed import accepted

# the boxes of the three images, all of which are shown from a score of 0.4 on
PERSON, CAR = (10, 10, 110, 110), (200, 50, 300, 250)
SHOWN = [
    [(1, 0.9, PERSON), (3, 0.8, CAR), (18, 0.3, (400, 10, 500, 90))],
    [(1, 0.7, PERSON), (1, 0.6, CAR)],
    [(3, 0.5, CAR)],
]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = synthetic.write(
        tmp_path_factory.mktemp("review") / "out", 3, names=["a 1.jpg", "b/1.jpg", "c.jpg"]
    )

    def fixed(table: pa.Table) -> pa.Table:
        found = [
            [
                dict(zip(DETECTION.names, (k, synthetic.CATEGORIES[k], s, *xyxy), strict=True))
                for k, s, xyxy in boxes
            ]
            for boxes in SHOWN
        ]
        table = synthetic.replaced(table, "detections", found)
        table = synthetic.replaced(table, "width", [1000] * 3)
        return synthetic.replaced(table, "height", [500] * 3)

    synthetic.rewrite(next((output / "detections/status=ok").iterdir()), fixed)
    path = output / "_run/run.json"
    record = json.loads(path.read_text())
    record["identity"] |= {"depth_range": [0, 1000]}
    path.write_text(json.dumps(record))
    return output


def exported(output: Path, folder: Path) -> list[dict[str, Any]]:
    """Tasks as Label Studio has them once all predictions are accepted."""
    flags = ["--format", "labelstudio", "--to", str(folder), "--score-threshold", "0.4"]
    assert export([str(output), *flags]) == 0
    tasks: list[dict[str, Any]] = json.loads((folder / "tasks.json").read_text())
    for task in tasks:
        task["annotations"] = [{"result": accepted(task)}]
    return tasks


def region(label: str, xyxy: tuple[float, ...]) -> dict[str, Any]:
    left, top, right, bottom = (v / s for v, s in zip(xyxy, (10, 5, 10, 5), strict=True))
    value = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    return {
        "type": "rectanglelabels",
        "original_width": 1000,
        "original_height": 500,
        "value": value | {"rotation": 0, "rectanglelabels": [label]},
    }


def review(output: Path, corrections: Path, to: Path | str, *flags: str) -> int:
    return job.main([str(output), "--corrections", str(corrections), "--to", str(to), *flags])


@pytest.fixture(scope="module")
def corrected(output: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kept, a moved, a relabelled, a deleted and two added boxes; one image was skipped."""
    folder = tmp_path_factory.mktemp("corrected") / "tasks"
    first, second, third = exported(output, folder)
    results = first["annotations"][0]["result"]
    results[1] = region("car", (210, 50, 310, 250))  # IoU 0.82
    results.insert(0, region("forklift", (600, 100, 700, 200)))
    results.reverse()
    second["annotations"] = [
        {"result": [region("dog", PERSON), region("car", (800, 400, 900, 500))]},
    ]
    third["annotations"][0]["was_cancelled"] = True
    (folder / "back.json").write_text(json.dumps([first, second, third]))
    return folder


def test_each_kind_of_edit(
    output: Path, corrected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert review(output, corrected, tmp_path / "a") == 0
    printed = capsys.readouterr()
    assert all(len(line) <= 100 for line in printed.out.splitlines()[:-1]) and not printed.err
    assert "2 images reviewed, 0 of them unchanged; 5 edits" in printed.out
    assert "not reviewed: 1 skipped" in printed.out and "person to dog 1" in printed.out
    assert "as export.json says" in printed.out
    record = json.loads((tmp_path / "a/review.json").read_text())
    boxes = record["boxes"]
    keys = ("shown", "kept", "moved", "relabelled", "deleted", "added", "left")
    assert [boxes[key] for key in keys] == [4, 1, 1, 1, 1, 2, 5]
    assert boxes["precision"] == 2 / 4 and boxes["recall"] == 2 / 5
    assert record["edits"] == 5 and record["images"]["edits_max"] == 3
    by_name = {entry["name"]: entry for entry in record["categories"]}
    assert [*by_name] == ["person", "car", "dog", "forklift"]
    person, car, dog = by_name["person"], by_name["car"], by_name["dog"]
    assert [person[key] for key in keys] == [3, 1, 0, 1, 1, 0, 1]
    assert [car[key] for key in keys] == [1, 0, 1, 0, 0, 1, 2]
    assert dog["precision"] is None and dog["recall"] == 0 and dog["relabelled_to"] == 1
    assert by_name["forklift"]["added"] == 1


def test_what_is_written(output: Path, corrected: Path, tmp_path: Path) -> None:
    assert review(output, corrected / "back.json", tmp_path / "a") == 0
    first, second = pq.read_table(tmp_path / "a/corrections.parquet").to_pylist()
    row = outputs.rows(str(output))[0]
    for key in ("image_id", "image_uri", "width", "height"):
        assert first[key] == row[key]
    sources = [(d["label"], d["label_id"], d["source"]) for d in first["detections"]]
    assert sources == [("person", 1, "kept"), ("car", 3, "moved"), ("forklift", 91, "added")]
    scores = [d["score"] for d in first["detections"]]
    assert scores[:2] == pytest.approx([0.9, 0.8]) and scores[2] is None
    assert first["detections"][1]["xmin"] == pytest.approx(210)
    assert first["deleted"] == [] and first["edits"] == 2
    assert [(d["label"], d["source"]) for d in second["detections"]] == [
        ("dog", "relabelled"),
        ("car", "added"),
    ]
    (gone,) = second["deleted"]
    assert gone["label"] == "person" and gone["xmin"] == CAR[0] and second["edits"] == 3


def test_corrections_are_annotations(
    output: Path, corrected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert review(output, corrected, tmp_path / "a") == 0
    for given in (tmp_path / "a", tmp_path / "a/corrections.parquet"):
        truth = load_truth(str(given))
        assert len(truth.names) == 2 and len(truth.xywh) == 5
        assert truth.category_ids["dog"] == 18 and truth.category_ids["forklift"] == 91
        rest = dict.fromkeys(("bytes_column", "bands", "accept_truncated"))
        assert truth.reads == [{"depth_range": [0, 1000], **rest}]
    assert evaluate.main([str(output), "--annotations", str(tmp_path / "a")]) == 0
    assert "2 annotated images evaluated" in capsys.readouterr().out
    # what is corrected once more has been edited less
    assert review(output, tmp_path / "a", tmp_path / "b", "--score-threshold", "0.4") == 0
    again = json.loads((tmp_path / "b/review.json").read_text())
    assert again["edits"] == 5


def test_nothing_was_done(output: Path, tmp_path: Path) -> None:
    tasks = exported(output, tmp_path / "tasks")
    (tmp_path / "tasks/back.json").write_text(json.dumps(tasks))
    flags = ("--seconds-per-box", "60", "--seconds-per-look", "12")
    assert review(output, tmp_path / "tasks", tmp_path / "a", *flags) == 0
    record = json.loads((tmp_path / "a/review.json").read_text())
    assert record["edits"] == 0 and record["boxes"]["kept"] == 5
    assert record["time"]["minutes_without"] == 5 and record["time"]["minutes_with"] == 1
    assert record["images"]["unchanged"] == 3


def test_without_export_json_flags_say_what_was_shown(output: Path, tmp_path: Path) -> None:
    tasks = exported(output, tmp_path / "tasks")
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    for flags, deleted in (
        ((), 1),
        (("--score-threshold", "0.4"), 0),
        (("--category", "dog=1"), 0),
    ):
        to = tmp_path / f"a{len(flags)}{deleted}{flags[1:]}"
        assert review(output, tmp_path / "back.json", to, *flags) == 0
        assert json.loads((to / "review.json").read_text())["boxes"]["deleted"] == deleted


def test_classes_that_were_renamed(output: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("person: worker\ncar: vehicle\ndog: vehicle\n")
    flags = ["--format", "coco", "--to", str(tmp_path / "a")]
    assert export([str(output), *flags, "--classes", str(tmp_path / "classes.yaml")]) == 0
    assert review(output, tmp_path / "a", tmp_path / "b") == 0
    record = json.loads((tmp_path / "b/review.json").read_text())
    assert record["edits"] == 0 and record["boxes"]["kept"] == 6
    assert {entry["name"]: entry["kept"] for entry in record["categories"]} == {
        "worker": 3,
        "vehicle": 3,
    }


def test_folders_that_differ_are_told(
    output: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = exported(output, tmp_path / "tasks")[2:]
    tasks[0]["data"]["image_uri"] = "s3://elsewhere/c.jpg"
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    assert review(output, tmp_path / "back.json", tmp_path / "a") == 0
    assert "1 images matched by the last part of their names" in caplog.text


def test_most_of_the_truth_is_of_other_images(output: Path, tmp_path: Path) -> None:
    tasks = exported(output, tmp_path / "tasks")
    for task in tasks[1:]:
        task["data"]["image_uri"] = f"s3://other/x{task['data']['image_id']}.jpg"
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    assert review(output, tmp_path / "back.json", tmp_path / "a", "--present-only") == 0
    images = json.loads((tmp_path / "a/review.json").read_text())["images"]
    assert (images["reviewed"], images["not_in_the_run"]) == (1, 2)


def test_in_a_bucket(output: Path, corrected: Path, bucket: str) -> None:
    assert review(output, corrected, f"s3://{bucket}/review") == 0
    assert len(load_truth(f"s3://{bucket}/review").xywh) == 5


@pytest.mark.parametrize(
    "change,complaint",
    [
        ("run", "corrections of another run: export.json beside them names run 6666"),
        ("failed", "every image of .* failed: there is nothing to review"),
        ("images", "2 of the 3 images of .* are not among those that .* or --present-only"),
        ("all", "no image of .* is in"),
        ("rotated", "image s3://bucket/images/a 1.jpg has a rotated box"),
        ("full", "is not empty"),
        ("turned", "1 image of .* with another size than .* 500x1000 there, 1000x500 here, turned"),
        ("seconds", "--seconds-per-box must be 0 or more, not -1"),
        ("to", "--to is missing"),
        ("nothing", "it does not exist"),
    ],
)
def test_one_line_for_each_mistake(
    change: str,
    complaint: str,
    output: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder, to = tmp_path / "tasks", tmp_path / "a"
    tasks = exported(output, folder)
    if change in ("images", "all"):
        for task in tasks[change == "images" :]:
            task["data"]["image_uri"] = f"s3://other/x{task['data']['image_id']}.jpg"
    if change == "rotated":
        tasks[0]["annotations"][0]["result"][0]["value"]["rotation"] = 12.5
    if change == "turned":
        for box in tasks[0]["annotations"][0]["result"]:
            box |= {"original_width": 500, "original_height": 1000}
    if change == "run":
        record = json.loads((folder / "export.json").read_text())
        other = {"run_id": "6" * 32, "classes": [{"id": 99, "name": "of that run alone"}]}
        (folder / "export.json").write_text(json.dumps(record | other))
    if change == "failed":
        output = shutil.copytree(output, tmp_path / "failed")
        (output / "detections/status=ok").rename(output / "detections/status=error")
        known = json.loads((output / "_run/run.json").read_text())
        known["counts"] |= {"ok": 0}
        (output / "_run/run.json").write_text(json.dumps(known))
    if change == "full":
        to.mkdir()
        (to / "x").write_text("")
    if change != "nothing":
        (folder / "back.json").write_text(json.dumps(tasks))
    arguments = [str(output), "--corrections", str(folder / "back.json")]
    arguments += [] if change == "to" else ["--to", str(to)]
    arguments += ["--seconds-per-box", "-1"] if change == "seconds" else []
    arguments += ["--present-only"] if change == "failed" else []
    capsys.readouterr()
    assert job.main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and not (to / "review.json").exists()
    assert re.search(complaint, printed), printed
    assert not caplog.records


def test_exports_that_showed_other_boxes(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for row, cut in zip(outputs.rows(str(output)), ("0.4", "0.7"), strict=False):
        (tmp_path / "one.txt").write_text(f"{row['image_uri']}\n")
        flags = ["--images", str(tmp_path / "one.txt"), "--score-threshold", cut]
        to = str(tmp_path / "back" / cut)
        assert export([str(output), "--format", "cvat", "--to", to, *flags]) == 0
    capsys.readouterr()
    assert review(output, tmp_path / "back", tmp_path / "a") == 2
    assert "by score_threshold in their export.json: review them one" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["labelstudio", "coco"])
def test_two_exports_in_one_project(
    output: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is reviewed by what it has shown."""
    one, other = (tmp_path / name for name in "ab")
    rows = outputs.rows(str(output))
    for folder, cut, mine in ((one, "0.85", rows[:1]), (other, "0.4", rows[1:])):
        (tmp_path / "l.txt").write_text("".join(f"{row['image_uri']}\n" for row in mine))
        flags = ["--images", str(tmp_path / "l.txt"), "--score-threshold", cut, "--format", kind]
        assert export([str(output), *flags, "--to", str(folder)]) == 0
    if kind == "labelstudio":
        tasks = [json.loads(Path(reviewed.as_reviewed(kind, f)).read_text()) for f in (one, other)]
        back = [f / "project-1-at-2026-11-30.json" for f in (one, other)]
        together = [*tasks[0], *tasks[1]]
    else:
        back = [f / "instances.json" for f in (one, other)]
        first, second = (json.loads(path.read_text()) for path in back)
        together = first | {k: first[k] + second[k] for k in ("images", "annotations")}
    for path, images, boxes in zip(back, (1, 2), (1, 3), strict=True):
        path.write_text(json.dumps(together))
        to = tmp_path / f"to{images}"
        assert review(output, path, to) == 0
        record = json.loads((to / "review.json").read_text())
        assert record["boxes"]["kept"] == record["boxes"]["shown"] == boxes
        assert record["edits"] == 0 and record["images"]["reviewed"] == images
        said = f"not reviewed: {3 - images} not in the images.csv beside the corrections"
        assert said in capsys.readouterr().out
    # evaluated, it matters not what was shown
    assert len(load_truth(str(back[0])).ids) == 3
    (one / "images.csv").write_text("name,image_id,image_uri\nx,9,s3://b/x\n")
    assert review(output, back[0], tmp_path / "c") == 2
    assert "is in the images.csv beside it: put it into the folder" in capsys.readouterr().err


def test_images_that_were_refreshed_since_their_export(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What people left is of other pictures than the boxes of the run are now."""
    tasks = exported(output, tmp_path / "before")
    back = tmp_path / "before/back.json"
    back.write_text(json.dumps(tasks))
    now = redone.redo(output, tmp_path / "out", {1})
    assert review(now, back, tmp_path / "a") == 0
    printed = capsys.readouterr().out
    assert "not reviewed: 1 processed again since their export" in printed
    record = json.loads((tmp_path / "a/review.json").read_text())
    assert record["edits"] == 0 and record["images"]["reviewed"] == 2
    rows = pq.read_table(tmp_path / "a/corrections.parquet").to_pylist()
    assert [row["image_id"] for row in rows] == [0, 2]
    assert evaluate.main([str(now), "--annotations", str(back)]) == 0
    assert "1 processed again since their export" in capsys.readouterr().out
    # exported now, or by a version that did not say when, all of it counts
    after = tmp_path / "after/back.json"
    after.parent.mkdir()
    (tmp_path / "after/back.json").write_text(json.dumps(exported(now, after.parent)))
    path = tmp_path / "before/export.json"
    export_record = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in export_record.items() if k != "attempt"}))
    for number, corrections in enumerate((after, back)):
        assert review(now, corrections, tmp_path / f"b{number}") == 0
        record = json.loads((tmp_path / f"b{number}/review.json").read_text())
        assert record["images"]["reviewed"] == 3 and bool(record["edits"]) is bool(number)
    # of another run it is not known
    path.write_text(json.dumps(export_record | {"run_id": "other"}))
    assert evaluate.main([str(now), "--annotations", str(back)]) == 0
    assert "processed again" not in capsys.readouterr().out
    path.write_text(json.dumps(export_record))
    everything = redone.redo(output, tmp_path / "all", {0, 1, 2})
    assert review(everything, back, tmp_path / "c") == 2
    assert "export and correct them again" in capsys.readouterr().err


def test_pairs_are_the_best_ones() -> None:
    """Two classes at one place keep their own boxes; a box has one partner at most."""
    shown = np.array([[0, 0, 100, 100], [0, 0, 100, 101], [0, 0, 100, 100], [0, 0, 50, 100]], float)
    owners, classes = np.array([0, 0, 1, 1]), np.array([1, 2, 1, 1])
    left = np.array(
        [[0, 0, 100, 100.4], [0, 0, 100, 100.6], [0, 0, 40, 100], [0, 0, 46, 100]], float
    )
    left_classes = np.array([2, 1, 1, 1])
    partners, ious = pair(owners, shown, classes, np.array([0, 0, 1, 1]), left, left_classes)
    assert partners.tolist() == [1, 0, -1, 3]
    assert ious == pytest.approx([100.4 / 101, 100 / 100.6, 0, 0.92])
    empty = np.empty((0, 4))
    none = np.empty(0, np.int64)
    assert pair(none, empty, none, none, empty, none)[0].tolist() == []
    assert pair(none, empty, none, np.array([0]), left[:1], np.array([1]))[0].tolist() == [-1]


def test_doubles_that_nobody_was_shown(tmp_path: Path) -> None:
    """What an export left out as a double is no box that people have deleted."""
    output = synthetic.write(tmp_path / "out", 40, 30)
    flags = ("--agnostic-nms", "0.3")
    assert export([str(output), "--format", "coco", "--to", str(tmp_path / "a"), *flags]) == 0
    left_out = json.loads((tmp_path / "a/export.json").read_text())["counts"]["doubles_left_out"]
    assert left_out > 20
    assert review(output, tmp_path / "a", tmp_path / "by-record") == 0
    (tmp_path / "a/export.json").unlink()
    assert review(output, tmp_path / "a", tmp_path / "by-flag", *flags) == 0
    assert review(output, tmp_path / "a", tmp_path / "without") == 0
    found = {
        name: json.loads((tmp_path / name / "review.json").read_text())["boxes"]["deleted"]
        for name in ("by-record", "by-flag", "without")
    }
    assert found == {"by-record": 0, "by-flag": 0, "without": left_out}


def deleted(folder: Path) -> int:
    return int(json.loads((folder / "review.json").read_text())["boxes"]["deleted"])


def test_an_export_in_parts_within_parts(tmp_path: Path) -> None:
    """What was shown is said folders above: else all boxes of the run would count as deleted."""
    names = [f"{'ab'[number % 2]}/{number}.jpg" for number in range(8)]
    output = synthetic.write(tmp_path / "out", 8, 12, names=names)
    flags = ["--by-directory", "--tasks-per-file", "8", "--score-threshold", "0.5"]
    assert export([str(output), "--format", "coco", "--to", str(tmp_path / "a"), *flags]) == 0
    assert (tmp_path / "a/a/0001/instances.json").exists()
    assert review(output, tmp_path / "a/a/0001", tmp_path / "b") == 0
    assert deleted(tmp_path / "b") == 0


def test_a_flag_leaves_the_rest_of_the_record(tmp_path: Path) -> None:
    output = synthetic.write(tmp_path / "out", 8, 12)
    flags = ["--score-threshold", "0.5", "--agnostic-nms", "0.6"]
    assert export([str(output), "--format", "coco", "--to", str(tmp_path / "a"), *flags]) == 0
    assert review(output, tmp_path / "a", tmp_path / "b", "--category", "person=0.5") == 0
    assert deleted(tmp_path / "b") == 0
    assert review(output, tmp_path / "a", tmp_path / "c", "--score-threshold", "0.2") == 0
    assert deleted(tmp_path / "c") > 0


def test_a_class_whose_id_a_new_name_has(tmp_path: Path) -> None:
    """Bicycles are called vehicles, and then a person finds what the run would call a bicycle."""
    output = synthetic.write(tmp_path / "out", 40, 12)
    (tmp_path / "classes.yaml").write_text("{bicycle: vehicle}")
    to = tmp_path / "a"
    flags = ["--classes", str(tmp_path / "classes.yaml"), "--format", "coco", "--to", str(to)]
    assert export([str(output), *flags]) == 0
    content = json.loads((to / "instances.json").read_text())
    content["categories"].append({"id": 2**31 - 1, "name": "bicycle"})
    content["annotations"][0]["category_id"] = 2**31 - 1
    (to / "instances.json").write_text(json.dumps(content))
    tracemalloc.start()
    assert review(output, to, tmp_path / "b") == 0
    assert tracemalloc.get_traced_memory()[1] < 100e6  # an id costs no memory by its size
    tracemalloc.stop()
    rows = pq.read_table(tmp_path / "b/corrections.parquet").to_pylist()
    found = {(d["label"], d["label_id"]) for row in rows for d in row["detections"]}
    assert {name for name, _ in found} == {"vehicle", "bicycle"}
    assert len({number for _, number in found}) == 2


def test_a_share_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = synthetic.write(tmp_path / "out", 3)
    assert export([str(output), "--format", "coco", "--to", str(tmp_path / "a")]) == 0
    capsys.readouterr()
    assert review(output, tmp_path / "a", tmp_path / "b", "--agnostic-nms", "70") == 2
    assert "--agnostic-nms" in capsys.readouterr().err
