"""The worth of a look against its definition, the choice against plain relevance and diversity."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import select as job
from pipeline.config import Config
from pipeline.inputs.sources import open_source
from pipeline.labels import classes
from pipeline.labels.output import open_output
from pipeline.labels.select import greedy, select
from pipeline.labels.value import DEFAULT_WEIGHTS, measure
from tests.support import reviews, synthetic
from tests.support.outputs import rows

THRESHOLD = 0.5


def overlap(a: dict[str, Any], b: dict[str, Any]) -> float:
    width = min(a["xmax"], b["xmax"]) - max(a["xmin"], b["xmin"])
    height = min(a["ymax"], b["ymax"]) - max(a["ymin"], b["ymin"])
    common = max(width, 0) * max(height, 0)
    areas = [(c["xmax"] - c["xmin"]) * (c["ymax"] - c["ymin"]) for c in (a, b)]
    return float(common / (sum(areas) - common))


def by_definition(found: list[dict[str, Any]]) -> dict[str, list[float]]:
    images = [row["detections"] for row in found if row["status"] == "ok"]
    accepted = [{d["label"] for d in image if d["score"] >= THRESHOLD} for image in images]
    frequency = {name: sum(name in labels for labels in accepted) for name in synthetic.NAMES}
    values: dict[str, list[float]] = {name: [] for name in DEFAULT_WEIGHTS}
    for image in images:
        kept = [d for d in image if d["score"] >= THRESHOLD]
        values["uncertainty"].append(
            sum(1 - d["score"] if d["score"] >= THRESHOLD else d["score"] for d in image)
        )
        values["disagreement"].append(
            sum(
                min(a["score"], b["score"])
                for i, a in enumerate(image)
                for b in image[:i]
                if a["label"] != b["label"] and overlap(a, b) > 0.5
            )
        )
        values["rarity"].append(
            max(
                (d["score"] * math.log(len(images) / frequency[d["label"]]) for d in kept),
                default=0,
            )
        )
        values["crowding"].append(len(kept))
    return values


def test_values_are_what_they_are_said_to_be(tmp_path: Path) -> None:
    output = open_output(str(synthetic.write(tmp_path / "out", 150, rows_per_file=40)))
    values = measure(output, classes.choose(output.categories), THRESHOLD)
    found = rows(str(tmp_path / "out"))
    assert values.ids.tolist() == [row["image_id"] for row in found if row["status"] == "ok"]
    for name, expected in by_definition(found).items():
        assert values.parts[name].tolist() == pytest.approx(expected, rel=1e-4), name
        assert len(set(expected)) > 10


def test_probabilities_in_place_of_scores(tmp_path: Path) -> None:
    """Halved, no detection is accepted at 0.5, and what one of them is worth is the half."""
    output = synthetic.write(tmp_path / "out", 40, 6)
    path = reviews.calibration(tmp_path / "c.json", dict.fromkeys(synthetic.NAMES, 0.5))
    to = tmp_path / "list.parquet"
    flags = ["--budget", "99", "--to", str(to), "--diversity", "0", "--calibration", path]
    assert job.main([str(output), *flags]) == 0
    found = {row["image_id"]: row for row in pq.read_table(to).to_pylist()}
    ok = [row for row in rows(str(output)) if row["status"] == "ok"]
    assert len(found) == len(ok)
    for row in ok:
        expected = sum(box["score"] for box in row["detections"]) / 2
        assert found[row["image_id"]]["uncertainty"] == pytest.approx(expected, rel=1e-4)
        assert found[row["image_id"]]["crowding"] == 0


@pytest.mark.parametrize("diversity", [0.0, 0.5, 1.0])
def test_greedy_is_plain_maximal_marginal_relevance(diversity: float) -> None:
    random = np.random.default_rng(3)
    values = random.random(200).astype(np.float32)
    features = random.normal(size=(200, 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    plain: list[int] = []
    expected: list[float] = []
    for _ in range(40):
        near = np.zeros(200)
        if plain:
            near = np.clip((features @ features[plain].T).max(1), 0, 1)
        gains = values * (1 - diversity * near)
        gains[plain] = -1
        plain.append(int(np.argmax(gains)))
        expected.append(float(gains.max()))
    places, found = greedy(values, features, 40, diversity)
    assert places.tolist() == plain
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def change_detections(output: Path, change: Callable[[list[Any]], Any]) -> None:
    """Change the lists of the only file of ok rows."""

    def changed(table: pa.Table) -> pa.Table:
        lists = table["detections"].to_pylist()
        change(lists)
        return synthetic.replaced(table, "detections", lists)

    synthetic.rewrite(next((output / "detections/status=ok").iterdir()), changed)


def frames(tmp_path: Path) -> str:
    """A hundred images, of which 60 are one scene's frames, and the most valuable."""
    scene = [
        {
            "label_id": 1 + number % 3,
            "label": synthetic.CATEGORIES[1 + number % 3],
            "score": 0.55 - number / 100,
            "xmin": 20.0 * number,
            "ymin": 30.0,
            "xmax": 20.0 * number + 15,
            "ymax": 60.0,
        }
        for number in range(20)
    ]
    output = synthetic.write(tmp_path / "out", 100, boxes=6)

    def into_one_scene(lists: list[Any]) -> None:
        lists[20:80] = [scene] * 60

    change_detections(output, into_one_scene)
    return str(output)


def test_frames_of_one_scene_are_not_all_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = open_output(frames(tmp_path))
    chosen = classes.choose(output.categories)

    def frames_among(diversity: float) -> int:
        ids = select(output, chosen, 20, diversity=diversity).rows["image_id"].to_pylist()
        assert len(set(ids)) == 20
        return sum(20 <= image_id < 80 for image_id in ids)

    assert frames_among(0.0) > 15
    assert frames_among(1.0) == 1
    whole = select(output, chosen, 20).rows
    monkeypatch.setattr("pipeline.labels.select.AT_ONCE", 7)
    assert select(output, chosen, 20).rows.equals(whole)


def test_a_rare_class_is_found_and_named(tmp_path: Path) -> None:
    output = synthetic.write(tmp_path / "out", 100)
    cup = {"label_id": 47, "label": "cup", "score": 0.9, "xmin": 0, "ymin": 0, "xmax": 9, "ymax": 9}

    def one_cup_among_people(lists: list[Any]) -> None:
        lists[:] = [[d for d in found if d["label"] == "person"] for found in lists]
        lists[37] = [cup]

    change_detections(output, one_cup_among_people)
    opened = open_output(str(output))
    weights = {"uncertainty": 0.0, "disagreement": 0.0, "crowding": 0.0}
    best = select(opened, classes.choose(opened.categories), 1, weights=weights).rows.to_pylist()
    assert [(row["image_id"], row["reason"]) for row in best] == [
        (37, "rare: cup, in 1 of 99 images")
    ]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "txt"])
def test_the_list_is_an_input(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f'a, "{n}" ü.jpg' for n in range(50)]
    output = synthetic.write(tmp_path / "out", 50, names=names)
    path = tmp_path / f"list.{kind}"
    assert job.main([str(output), "--budget", "7", "--to", str(path)]) == 0
    said = capsys.readouterr().out
    assert "7 of 50 images" in said and " --score-threshold 0.5 --format labelstudio" in said
    tables = list(open_source(Config(input=str(path), output="x")).read())
    uris = [uri for table in tables for uri in table["image_uri"].to_pylist()]
    assert len(set(uris)) == 7
    known = {row["image_uri"] for row in rows(str(output)) if row["status"] == "ok"}
    assert set(uris) <= known
    if kind == "csv":
        with open(path, newline="", encoding="utf-8") as file:
            values = [float(row["value"]) for row in csv.DictReader(file)]
        assert len(values) == 7
    if kind == "jsonl":
        assert json.loads(path.read_text().splitlines()[0])["rank"] == 1
        assert path.read_text().count(" ü.jpg") == path.read_text().count("s3://bucket/") == 7


def test_more_than_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = synthetic.write(tmp_path / "out", 30)
    path = tmp_path / "list.parquet"
    assert job.main([str(output), "--budget", "99", "--to", str(path)]) == 0
    assert "30 of 30 images (there are no more)" in capsys.readouterr().out
    table = pq.read_table(path)
    assert sorted(table["image_id"].to_pylist()) == list(range(30))
    gains, values = table["gain"].to_pylist(), table["value"].to_pylist()
    assert gains == sorted(gains, reverse=True) and values != sorted(values, reverse=True)
    assert all(gain <= value for gain, value in zip(gains, values, strict=True))


@pytest.mark.parametrize(
    "flags,complaint",
    [
        ([], "--budget is missing"),
        (["--budget", "5"], "--to is missing"),
        (["--budget", "0", "--to", "x.csv"], "--budget must be a whole number above 0"),
        (["--budget", "5", "--to", "x.doc"], "--to must end in .parquet, .csv"),
        (["--budget", "5", "--to", "x.csv", "--diversity", "2"], "--diversity must be within"),
        (["--budget", "5", "--to", "x.csv", "--weight", "rarety=1"], "did you mean 'rarity'?"),
        (["--budget", "5", "--to", "x.csv", "--weight", "rarity"], "--weight NAME=X is the form"),
        (["--budget", "5", "--to", "x.csv", "--weight", "rarity=-1"], "must be 0 or more"),
        (["--budget", "5", "--to", "x.csv", "--weight", "rarity=nan"], "must be 0 or more"),
    ],
)
def test_one_line_for_each_mistake(
    tmp_path: Path, flags: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = synthetic.write(tmp_path / "out", 3)
    assert job.main([str(output), *flags]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and complaint in printed


def test_an_output_that_is_not_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = synthetic.write(tmp_path / "out", 3)
    (output / "_SUCCESS").unlink()
    assert job.main([str(output), "--budget", "1", "--to", str(tmp_path / "x.csv")]) == 2
    assert "is not finished" in capsys.readouterr().err
