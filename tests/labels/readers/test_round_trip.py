"""What an export wrote, read back: the same images, classes and boxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.errors import UsageError
from pipeline.labels.annotations import load_truth
from pipeline.labels.export.exporter import export
from pipeline.labels.export.target import Options
from pipeline.labels.truth import Truth
from tests.support import outputs, synthetic
from tests.support.exports import LABELS, NAMES
from tests.support.reviewed import as_reviewed

# what the format's digits can be off by, in pixels of images up to 1,000 wide
PIXELS = {"coco": 0.0101, "cvat": 0.0051, "voc": 0.0051, "huggingface": 1e-4, "fiftyone": 2e-4}
# as hostile as a line of `classes.txt` and the characters of XML allow
RENAMED = {"person": "a \"b\" <c> & 'd' %s {e}: #é 日本\t]]>\ufffe", "car": "yes", "dog": "1.5"}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "out"
    return synthetic.write(folder, len(NAMES), 4, names=NAMES)


def boxes(truth: Truth, place: int) -> dict[str, list[list[float]]]:
    names = {category: name for name, category in truth.category_ids.items()}
    found: dict[str, list[list[float]]] = {}
    for box in np.flatnonzero(truth.image_places == place):
        x, y, width, height = truth.xywh[box].tolist()
        label = names[int(truth.box_categories[box])]
        found.setdefault(label, []).append([x, y, x + width, y + height])
    return found


def rows(output: Path) -> Iterator[tuple[str, dict[str, list[list[float]]]]]:
    for row in outputs.rows(str(output)):
        found: dict[str, list[list[float]]] = {}
        for d in row["detections"] or []:
            if d["label"] in RENAMED:
                corners = [float(d[key]) for key in ("xmin", "ymin", "xmax", "ymax")]
                found.setdefault(RENAMED[d["label"]], []).append(corners)
        yield row["image_uri"], found


@pytest.mark.parametrize("kind", LABELS)
def test_nothing_has_changed(kind: str, output: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(RENAMED))
    folder = tmp_path / "a"
    export(
        str(output),
        Options(format=kind, to=str(folder), classes=str(tmp_path / "classes.yaml")),
    )
    truth = load_truth(as_reviewed(kind, folder))
    assert sorted(truth.category_ids) == sorted(RENAMED.values())
    assert not truth.left_out and not truth.unreviewed
    assert truth.exports[0]["run_id"] == synthetic.RUN_ID
    places, count = set(), 0
    for uri, expected in rows(output):
        found = truth.place(uri)
        assert found and found[1], uri
        places.add(found[0])
        mine = boxes(truth, found[0])
        assert {k: len(v) for k, v in mine.items()} == {k: len(v) for k, v in expected.items()}
        for label, corners in expected.items():
            apart = np.abs(np.array(corners) - np.array(mine[label])).max()
            assert apart <= PIXELS.get(kind, 0.01), (uri, label)
            count += len(corners)
    assert len(places) == len(truth.names) == len(NAMES) and count > 50


@pytest.mark.parametrize("kind", sorted({*LABELS} - {"coco", "labelstudio"}))
@pytest.mark.parametrize("flags", [{"tasks_per_file": 9}, {"by_directory": True}])
def test_an_export_that_was_split(
    kind: str, flags: dict[str, Any], output: Path, tmp_path: Path
) -> None:
    export(str(output), Options(format=kind, to=str(tmp_path / "a"), **flags))
    truth = load_truth(str(tmp_path / "a"))
    assert len(truth.names) == len(NAMES)
    assert [record["format"] for record in truth.exports] == [kind]
    found = [truth.place(row["image_uri"]) for row in outputs.rows(str(output))]
    assert len({place[0] for place in found if place and place[1]}) == len(NAMES)


def test_in_a_bucket(output: Path, bucket: str) -> None:
    for kind in ("yolo", "cvat"):
        export(str(output), Options(format=kind, to=f"s3://{bucket}/{kind}"))
        assert len(load_truth(f"s3://{bucket}/{kind}").names) == len(NAMES)


def test_label_studio_without_a_review(output: Path, tmp_path: Path) -> None:
    export(str(output), Options(format="labelstudio", to=str(tmp_path / "a")))
    with pytest.raises(UsageError, match=f"has reviewed: {len(NAMES)} without an annotation"):
        load_truth(str(tmp_path / "a"))
