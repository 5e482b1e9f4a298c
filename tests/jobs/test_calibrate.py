"""`jobs.calibrate` as a command: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from jobs import calibrate as job
from tests.support import synthetic
from tests.support.outputs import rows
from tests.support.reviews import corrections

IMAGES = 300


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = synthetic.write(tmp_path_factory.mktemp("calibrate") / "out", IMAGES)
    corrections(output.parent / "review.json", rows(str(output)), 120)
    return output


def call(output: Path, review: Path, *flags: str) -> int:
    to = ["--to", str(output.parent / "calibration.json")]
    return job.main([str(output), "--corrections", str(review), *to, *flags])


def test_what_it_prints(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(output, output.parent / "review.json", "--precision", "0.85") == 0
    *lines, written, then = capsys.readouterr().out.splitlines()
    made = output.parent / "calibration.json"
    assert written == f"written     {made}"
    assert then.endswith(f"export {output} --accept {made} --format coco --to sets")
    assert lines[4].split()[0] == "all" and len(lines[4].split()) == 5
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines[:5]] == ["category", "person", "car", "3", "all"]
    said = json.loads((output.parent / "calibration.json").read_text())
    threshold, accepted = lines[1].split()[-2:]
    assert threshold == f"{said['groups'][0]['threshold']:.4f}"
    assert accepted == f"{said['groups'][0]['accepted_share']:.1%}" != "0.0%"
    assert lines[3].split()[-2:] == ["-", "0.0%"]
    assert "3 rare ones, taken together: 'bicycle', 'dog', 'cup'" in lines
    assert lines[-1].startswith("3 rare ones: nothing is accepted; too many of the boxes with")
    assert "177 images that were not reviewed, provided that the 120 reviewed are" in lines[7]


def test_a_claim_that_nothing_can_be_shown_of_yet(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(output, output.parent / "review.json", "--precision", "0.98") == 0
    printed = capsys.readouterr().out
    assert (
        "3 rare ones: nothing is accepted; that takes about 406 reviewed boxes, from about "
        in printed
    )
    assert f"report {output} --calibration " in printed.splitlines()[-1]
    said = json.loads((output.parent / "calibration.json").read_text())
    assert [group["accepted_share"] for group in said["groups"]] == [0.0, 0.0, 0.0]
    assert len(said["groups"][0]["curve"]) > 3


def test_classes_that_the_corrections_lack(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((output.parent / "review.json").read_text())
    content["categories"] = [c for c in content["categories"] if c["name"] != "cup"]
    known = {category["id"] for category in content["categories"]}
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] in known]
    content["categories"].append({"id": 999, "name": "Person"})  # beside `person`
    content["annotations"].append(content["annotations"][0] | {"category_id": 999})
    (tmp_path / "review.json").write_text(json.dumps(content))
    assert call(output, tmp_path / "review.json", "--precision", "0.85") == 0
    assert capsys.readouterr().out.splitlines()[-4:-2] == [
        "not among the categories of the corrections, so nothing is accepted: 'cup'",
        "1 annotations of categories that are not classes of the run, not used: 'Person'",
    ]
    made = json.loads((output.parent / "calibration.json").read_text())
    assert 47 not in [label for group in made["groups"] for label in group["labels"]]


def only(output: Path, keep: str) -> Path:
    """The review with a part of its images, or with all of the run's."""
    path = output.parent / f"{keep}.json"
    content = json.loads((output.parent / "review.json").read_text())
    found = rows(str(output))
    if keep == "all":
        content["images"] = [
            {"id": n, "file_name": os.path.basename(row["image_uri"])}
            for n, row in enumerate(found)
        ]
    if keep == "few":
        content["images"] = content["images"][:12]
    if keep == "crowded":
        numbers = {os.path.basename(r["image_uri"]): r["num_detections"] or 0 for r in found}
        content["images"].sort(key=lambda image: -numbers[image["file_name"]])
        content["images"] = content["images"][:40]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "keep,flags,complaint",
    [
        ("review", ["--precision", "0.9999"], "that takes 59,912, from about 5,5"),
        ("review", ["--precision", "98"], "--precision must be above 0 and below 1, not 98"),
        ("few", [], "12 images of"),
        ("all", [], "every image of"),
        ("crowded", [], "are not a random draw of"),
    ],
)
def test_one_line_for_what_cannot_be_shown(
    output: Path, capsys: pytest.CaptureFixture[str], keep: str, flags: list[str], complaint: str
) -> None:
    (output.parent / "calibration.json").unlink(missing_ok=True)
    assert call(output, only(output, keep), *flags) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and complaint in printed.err
    assert not (output.parent / "calibration.json").exists()


def test_what_is_missing(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main([str(output), "--to", "c.json"]) == 2
    assert "--corrections is missing" in capsys.readouterr().err
