"""CVAT for video: out, unchanged back, and as CVAT gives it back."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.export import main
from pipeline.errors import UsageError
from pipeline.labels.annotations import load_truth
from pipeline.labels.export import exporter, parts
from pipeline.labels.truth import Truth
from tests.support import outputs, synthetic

# every fifth of 30 and of 15 frames, and a picture beside them
NAMES = [*(f"a.mp4#t={n / 25:.3f}" for n in range(0, 30, 5)), "b.png"]
NAMES += [f"sub/c.mp4#t={n / 25:.3f}" for n in range(0, 15, 5)]
FRAMES = [*range(0, 30, 5), None, *range(0, 15, 5)]


def export(output: Path, to: Path, *flags: str) -> int:
    return main([str(output), "--format", "cvat-video", "--to", str(to), *flags])


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("frames") / "out"
    synthetic.write(root, len(NAMES), 6, names=NAMES, frames=FRAMES)
    record = json.loads((root / "_run/run.json").read_text())
    record["identity"]["every_nth"] = 5
    (root / "_run/run.json").write_text(json.dumps(record))
    return root


def boxes(truth: Truth, uri: str) -> np.ndarray:
    """Sorted corners and classes of an image that must be there."""
    found = truth.place(uri)
    assert found and found[1]
    mine = truth.image_places == found[0]
    xywh = truth.xywh[mine]
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
    rows = np.column_stack([corners, truth.box_categories[mine]])
    return rows[np.lexsort(rows.T[::-1])]


def test_nothing_has_changed(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(output, tmp_path / "a", "--confidence") == 0
    assert "1 images that are not frames of videos" in capsys.readouterr().out
    assert {path.parent.name for path in tmp_path.rglob("*.xml")} == {"a_mp4", "sub__c_mp4"}
    truth = load_truth(str(tmp_path / "a"))
    assert len(truth.names) == 9 and not truth.unreviewed and not truth.left_out
    ids = truth.category_ids
    count = 0
    for row in outputs.rows(str(output)):
        if row["frame_index"] is None:
            continue
        keys = ("xmin", "ymin", "xmax", "ymax")
        expected = [[*(d[k] for k in keys), ids[d["label"]]] for d in row["detections"]]
        right = np.array(sorted(expected)).reshape(-1, 5)
        count += len(right)
        assert np.allclose(boxes(truth, row["image_uri"]), right, atol=0.0051)
    assert count > 20


def test_as_cvat_numbers_frames(output: Path, tmp_path: Path) -> None:
    """A box ends in the next frame of the task, but after the last one, which CVAT may not have."""
    assert export(output, tmp_path / "a") == 0
    root = ElementTree.parse(tmp_path / "a/a_mp4/annotations.xml").getroot()
    task: Any = root.find("meta/task")
    names = ("mode", "size", "start_frame", "stop_frame", "frame_filter")
    assert [task.findtext(n) for n in names] == ["interpolation", "6", "0", "25", "step=5"]
    seen = set()
    for track in root.iter("track"):
        first, *rest = [(int(box.attrib["frame"]), box.get("outside")) for box in track]
        assert rest == ([(first[0] + 5, "1")] if first[0] < 25 else []) and first[1] == "0"
        seen.add(first[0])
    assert {0, 25} <= seen <= {*range(0, 30, 5)}


def test_of_some_frames_each_box_ends(output: Path, tmp_path: Path) -> None:
    """For CVAT has those that follow, and would show it there."""
    chosen = tmp_path / "look.txt"
    chosen.write_text("".join(f"s3://bucket/images/{name}\n" for name in NAMES[1:4]))
    assert export(output, tmp_path / "a", "--images", str(chosen)) == 0
    root = ElementTree.parse(tmp_path / "a/a_mp4/annotations.xml").getroot()
    tracks = [[int(box.attrib["frame"]) for box in track] for track in root.iter("track")]
    assert [15, 20] in tracks and all(len(frames) == 2 for frames in tracks)
    assert [root.findtext(f"meta/task/{n}") for n in ("size", "stop_frame")] == ["6", "25"]


def test_videos_that_have_changed_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refresh puts their new frames behind all others; of those that are gone rows are left."""
    monkeypatch.setattr(exporter, "MAX_OPEN", 1)
    monkeypatch.setattr(parts, "MAX_OPEN", 1)
    rows = ["a0", "a1", "a2", "b0", "b1", "b2", "c0", "d0", "a1", "a2", "b3", "c1"]
    names = [f"{row[0]}.mp4#t=0.{number:03d}" for number, row in enumerate(rows)]
    frames: list[int | None] = [int(row[1]) for row in rows]
    output = synthetic.write(tmp_path / "out", len(rows), 6, names=names, frames=frames)
    pq.write_table(pa.table({"image_id": [1, 2]}), output / "_run/gone.parquet")
    assert export(output, tmp_path / "x") == 0
    assert "left out: 2 frames that --refresh no longer found" in capsys.readouterr().out
    found = {}
    for path in (tmp_path / "x").glob("*/images.csv"):
        with path.open(newline="") as file:
            images = [(row["name"], int(row["image_id"])) for row in csv.DictReader(file)]
        found[path.parent.name] = [f"{name[-7:]} {image_id}" for name, image_id in images]
    assert found == {
        "a_mp4": ["_000000 0", "_000001 8", "_000002 9"],
        "b_mp4": ["_000000 3", "_000001 4", "_000002 5", "_000003 10"],
        "c_mp4": ["_000000 6", "_000001 11"],
        "d_mp4": ["_000000 7"],
    }


BOX = '<box frame="%d" keyframe="%d" outside="%d" xtl="%d" ytl="0" xbr="%d" ybr="10"%s/>'
META = "<mode>interpolation</mode><start_frame>%d</start_frame><stop_frame>%d</stop_frame>"


def changed(folder: Path, meta: str, *tracks: list[tuple[Any, ...]], more: str = "") -> Truth:
    """What is read when these tracks have come back in place of an export's."""
    text = "".join(
        f'<track id="0" label="car"{more}>{"".join(BOX % box for box in track)}</track>'
        for track in tracks
    )
    xml = f"<annotations><meta>{meta}</meta>{text}</annotations>"
    (folder / "annotations.xml").write_text(xml)
    return load_truth(str(folder))


def test_as_cvat_gives_it_back(output: Path, tmp_path: Path) -> None:
    export(output, tmp_path / "a")
    folder = tmp_path / "a/a_mp4"
    named = dict(zip(FRAMES[:6], NAMES[:6], strict=True))
    task = f"<task>{META % (0, 29)}<frame_filter>step=5</frame_filter></task>"
    written = [(0, 1, 0, 0, 10, ""), (5, 0, 0, 50, 60, ""), (10, 1, 1, 50, 60, "")]
    keys = [(15, 1, 0, 0, 10, ""), (25, 1, 0, 100, 110, "")]
    new = [(12, 1, 0, 0, 10, ""), (13, 0, 0, 0, 10, ""), (14, 1, 1, 0, 10, "")]
    truth = changed(folder, task, written, keys, new)
    assert len(truth.names) == 6 and not truth.unreviewed
    assert truth.left_out == {"in frames that the run does not have": 1}
    lefts = {
        n: boxes(truth, f"s3://bucket/images/{named[n]}")[:, 0].tolist() for n in range(0, 30, 5)
    }
    assert lefts == {0: [0], 5: [50], 10: [], 15: [0], 20: [50], 25: [100]}
    # a video without a box is reviewed; of a job of its middle the rest has not come back
    assert len(changed(folder, task).names) == 6
    job = f"<job>{META % (5, 15)}<frame_filter>step=5</frame_filter></job>"
    middle = changed(folder, job)
    assert middle.names == [f"s3://bucket/images/{named[n]}" for n in (5, 10, 15)]
    assert middle.unreviewed.total() == 3


def test_what_cannot_be_read(output: Path, tmp_path: Path) -> None:
    export(output, tmp_path / "a")
    folder = tmp_path / "a/a_mp4"
    box = (0, 1, 0, 0, 10, "")
    with pytest.raises(UsageError, match="frame_000000 has a rotated box"):
        changed(folder, "", [(*box[:-1], ' rotation="3"')])
    with pytest.raises(
        UsageError, match="is the export of a whole project; export each task by itself"
    ):
        changed(folder, "", [box], more=' task_id="3"')
    (folder / "images.csv").unlink()
    with pytest.raises(UsageError, match=r"only by number: put the images.csv"):
        changed(folder, "", [box])


def test_what_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = synthetic.write(tmp_path / "out", 3)
    assert export(plain, tmp_path / "a") == 2
    assert "has no frames of videos; use --format cvat for images" in capsys.readouterr().err
    assert export(plain, tmp_path / "b", "--tasks-per-file", "3") == 2
    assert "a folder for each video" in capsys.readouterr().err
