"""Which side is right, where the truth is what one side has found."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs import diff, evaluate
from pipeline.labels.diff.pairing import KINDS
from tests.support import changed, outputs, photographed

IDS = {name: number for number, name in enumerate(photographed.CATEGORIES.values(), 1)}


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, bytes]
) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("judged")
    output = photographed.write(base, photographs)
    return output, changed.write(base / "other", output)


def truth(
    output: Path, path: Path, without: str = "", crowd: bool = False, leave: str = "plain.jpg"
) -> str:
    """The boxes of an output that reach 0.5, as annotations of all images but one or two."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row in outputs.rows(str(output)):
        if row["image_uri"].endswith(("plain.jpg", leave)):
            continue
        images.append({"id": row["image_id"] + 1, "file_name": row["image_uri"].lstrip("/")})
        for box in row["detections"] or ():
            size = [box["xmax"] - box["xmin"], box["ymax"] - box["ymin"]]
            if box["score"] >= 0.5 and box["label"] != without:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": row["image_id"] + 1,
                        "category_id": IDS[box["label"]],
                        "bbox": [box["xmin"], box["ymin"], *size],
                        "area": size[0] * size[1],
                        "iscrowd": int(crowd),
                    }
                )
    categories = [{"id": k, "name": name} for name, k in IDS.items() if name != without]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return str(path)


def judged(a: Path, b: Path, annotations: str, to: Path, *more: str) -> dict[str, Any]:
    flags = ["--annotations", annotations, "--json", str(to / "diff.json"), *more]
    assert diff.main([str(a), str(b), *flags]) == 0
    found: dict[str, Any] = json.loads((to / "diff.json").read_text())["annotations"]
    return found


def test_the_side_that_made_the_truth_is_right(both: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = both
    path = truth(a, tmp_path / "truth.json")
    for first, second, wins, loses in ((a, b, "only_a", "only_b"), (b, a, "only_b", "only_a")):
        found = judged(first, second, path, tmp_path)
        assert found["images"] == 9
        for kind in KINDS:
            right = found["right"][kind]
            whole = sum(right.values())
            assert whole, kind
            if kind in ("same", "moved"):
                assert right == {"only_a": 0, "only_b": 0, "both": whole, "neither": 0}
            else:
                assert right[wins] > 0.8 * whole and right[loses] == 0, kind
        side = wins.removeprefix("only_")
        other = loses.removeprefix("only_")
        assert found["metrics"]["AP"][side] > found["metrics"]["AP"][other]


@pytest.mark.parametrize("kept", [None, [*IDS][:2]])
def test_the_metrics_are_those_of_evaluate(
    both: tuple[Path, Path],
    tmp_path: Path,
    kept: list[str] | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "classes.yaml").write_text(json.dumps(kept))
    classes = ["--classes", str(tmp_path / "classes.yaml")] if kept else []
    path = truth(both[0], tmp_path / "truth.json")
    found = judged(*both, path, tmp_path, *classes)
    assert ("of classes that --classes leaves out" in capsys.readouterr().out) == bool(kept)
    for side, output in zip("ab", both, strict=True):
        flags = ["--annotations", path, "--present-only", "--to", str(tmp_path / side)]
        assert evaluate.main([str(output), *flags, *classes]) == 0
        alone = json.loads((tmp_path / side / "metrics.json").read_text())
        assert {name: value[side] for name, value in found["metrics"].items()} == alone["metrics"]
        assert found["left_out"] == alone["annotations_left_out"]


@pytest.mark.parametrize("package", ["hotcoco", "pycocotools"])
def test_images_that_failed_on_one_side_are_left_out(
    both: tuple[Path, Path], package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if package == "pycocotools":
        monkeypatch.setitem(sys.modules, "hotcoco", None)  # as if it were not installed
    rows = outputs.rows(str(both[1]))
    (row,) = (row for row in rows if row["image_uri"].endswith("x.jpg"))
    row |= {"detections": None, "num_detections": None, "width": None, "height": None}
    row |= {"error_stage": "decode", "error_code": "truncated", "error_message": "cut off"}
    photographed.write_output(tmp_path / "other", rows, str(both[0].parent / "images"), True)
    path = truth(both[0], tmp_path / "truth.json")
    found = judged(both[0], tmp_path / "other", path, tmp_path)
    assert found["images"] == 8
    without = judged(*both, truth(both[0], tmp_path / "w.json", leave="x.jpg"), tmp_path)
    assert found["metrics"] == without["metrics"] and found["right"] == without["right"]


def test_what_the_truth_cannot_tell_is_left_out(both: tuple[Path, Path], tmp_path: Path) -> None:
    every = judged(*both, truth(both[0], tmp_path / "a.json"), tmp_path)["right"]
    fewer = judged(*both, truth(both[0], tmp_path / "b.json", "cell"), tmp_path)["right"]
    assert 0 < sum(fewer["same"].values()) < sum(every["same"].values())
    confusions = json.loads((tmp_path / "diff.json").read_text())["confusions"]
    assert {pair["b"] for pair in confusions} >= {"cell"}  # of A's other labels
    told = sum(pair["boxes"] for pair in confusions if "cell" not in (pair["a"], pair["b"]))
    assert sum(fewer["relabelled"].values()) == told < sum(every["relabelled"].values())
    crowds = judged(*both, truth(both[0], tmp_path / "c.json", crowd=True), tmp_path)["right"]
    assert sum(crowds["same"].values()) == 0


def test_the_page_says_it(both: tuple[Path, Path], tmp_path: Path) -> None:
    path = truth(both[0], tmp_path / "truth.json")
    flags = ["--annotations", path, "--pictures", "0", "--to", str(tmp_path / "diff.html")]
    assert diff.main([*map(str, both), *flags]) == 0
    html = (tmp_path / "diff.html").read_text()
    assert "Over the 9 annotated images that both sides have." in html and "AP50" in html


def test_annotations_of_other_images(
    both: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = truth(both[0], tmp_path / "truth.json")
    content = json.loads(Path(path).read_text())
    for image in content["images"]:
        image["file_name"] = f"x{image['id']}"
    Path(path).write_text(json.dumps(content))
    assert diff.main([*map(str, both), "--annotations", path]) == 2
    assert "no image of" in capsys.readouterr().err
