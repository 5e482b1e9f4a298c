"""A calibration of an output whose truth is known, what is refused, and what its file gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jobs import calibrate as job
from pipeline.errors import UsageError
from pipeline.labels import boxes
from pipeline.labels.calibration import Calibration, load
from pipeline.labels.guarantee import Reviewed, histogram, lowest
from pipeline.labels.output import open_output
from tests.support import redone, synthetic
from tests.support.outputs import rows
from tests.support.reviews import corrections, probability

IMAGES = 600


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("calibrate") / "out", IMAGES)


@pytest.fixture(scope="module")
def right(output: Path) -> dict[int, list[bool]]:
    """Whether the boxes of each image are; half of the images are reviewed in `review.json`."""
    return corrections(output.parent / "review.json", rows(str(output)), IMAGES // 2)


def calibrated(output: Path, *flags: str) -> Calibration:
    to = output.parent / "calibration.json"
    assert job.main(arguments(output, *flags)) == 0
    return load(str(to), open_output(str(output)))


def arguments(output: Path, *flags: str) -> list[str]:
    review, to = str(output.parent / "review.json"), str(output.parent / "calibration.json")
    return [str(output), "--corrections", review, "--to", to, *flags]


def test_probabilities_are_true(output: Path, right: dict[int, list[bool]]) -> None:
    found = calibrated(output, "--precision", "0.9")
    assert found.reviewed == IMAGES // 2 and found.claim.precision == 0.9
    assert [len(group.categories) for group in found.groups] == [1, 1, 1, 2]
    assert found.groups[-1].categories == ["bicycle", "cup"]
    for group in [*found.groups, found.overall]:
        scores = np.linspace(0.1, 0.98, 10)
        assert group.curve(scores) == pytest.approx(probability(scores), abs=0.12)
        assert group.error_after < group.error_before / 2


def test_the_promise_holds_in_the_rest(output: Path, right: dict[int, list[bool]]) -> None:
    found = calibrated(output, "--precision", "0.9")
    reviewed = {
        i["file_name"] for i in json.loads((output.parent / "review.json").read_text())["images"]
    }
    by_label = {label: group for group in found.groups for label in group.labels}
    accepted: dict[str, list[bool]] = {}
    for row in rows(str(output)):
        if row["status"] != "ok" or row["image_uri"].rpartition("/")[2] in reviewed:
            continue
        for box, is_right in zip(row["detections"], right[row["image_id"]], strict=True):
            group = by_label[box["label_id"]]
            if group.threshold is not None and box["score"] >= np.float32(group.threshold):
                accepted.setdefault(group.name, []).append(is_right)
    assert {"person", "car"} <= set(accepted)
    assert all(np.mean(boxes) >= 0.9 for boxes in accepted.values())


def test_what_a_threshold_is_made_of(output: Path, right: dict[int, list[bool]]) -> None:
    """A group's boxes and the run's, and a confidence that is for four groups together."""
    found = calibrated(output, "--precision", "0.9")
    review = json.loads((output.parent / "review.json").read_text())
    reviewed = {image["file_name"] for image in review["images"]}
    every: list[tuple[float, bool, int, bool]] = []
    for row in rows(str(output)):
        known = row["image_uri"].rpartition("/")[2] in reviewed
        for box, is_right in zip(
            row["detections"] or [], right.get(row["image_id"], []), strict=True
        ):
            if box["label"] == "person":
                every.append((box["score"], is_right, row["image_id"], known))
    scores, hits, images, reviewed_ones = (np.array(column) for column in zip(*every, strict=True))
    chosen = reviewed_ones.astype(bool)
    mine = Reviewed(scores[chosen].astype(np.float32), hits[chosen], images[chosen])
    counts = histogram(scores.astype(np.float32))
    share, group = found.reviewed / found.images, found.groups[0]
    thresholds = [
        lowest(mine, counts, share, claim, group.correlation)
        for claim in (found.claim, found.claim.among(4))
    ]
    assert group.threshold == thresholds[1] != thresholds[0]
    assert group.boxes == len(mine.right) and group.right == np.count_nonzero(mine.right)
    limit = np.float32(group.threshold)
    assert group.accepted_share == np.mean(scores.astype(np.float32) >= limit)


def test_boxes_on_a_crowd_count_neither_way(
    output: Path, right: dict[int, list[bool]], tmp_path: Path
) -> None:
    review = json.loads((output.parent / "review.json").read_text())
    for annotation in review["annotations"][:20]:
        annotation["iscrowd"] = 1
    (tmp_path / "review.json").write_text(json.dumps(review))
    flags = ["--corrections", str(tmp_path / "review.json"), "--precision", "0.9"]
    before = calibrated(output, "--precision", "0.9").overall
    after = calibrated(output, *flags).overall
    assert before.right - after.right >= 18 and before.boxes - after.boxes >= 18


def test_boxes_are_mapped_by_their_own_label_and_sorted_anew(
    output: Path, right: dict[int, list[bool]]
) -> None:
    found = calibrated(output, "--precision", "0.9")
    table = next(open_output(str(output)).tables(boxes.COLUMNS, ("ok",)))
    before = boxes.from_table(table)
    after = found.calibrated(before)
    for row in range(50):
        span = slice(before.starts[row], before.starts[row + 1])
        expected = []
        for label, score in zip(before.labels[span], before.scores[span], strict=True):
            group = next(group for group in found.groups if label in group.labels)
            expected.append((-group.curve(score[None])[0], label))
        said = list(zip(-after.scores[span], after.labels[span], strict=True))
        assert sorted(said) == sorted(expected)
        assert np.all(np.diff(after.scores[span]) <= 0)


def test_a_label_that_no_group_has(output: Path, right: dict[int, list[bool]]) -> None:
    found = calibrated(output, "--precision", "0.9")
    one = boxes.BoxBatch(
        ids=np.array([0]),
        uris=["a"],
        sizes=np.array([[9, 9]]),
        starts=np.array([0, 2]),
        labels=np.array([1, 90]),
        scores=np.array([1.0, 1.0], np.float32),
        xyxy=np.zeros((2, 4), np.float32),
    )
    assert found.accepted(one).tolist() == [True, False]
    assert found.calibrated(one).scores[1] == min(
        found.overall.curve(np.ones(1))[0], found.groups[0].curve(np.ones(1))[0]
    )


def test_images_that_were_not_drawn_from(
    output: Path, right: dict[int, list[bool]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run was refreshed after the export that was corrected."""
    now = redone.redo(output, tmp_path / "out", range(100))
    shutil.copy(output.parent / "review.json", tmp_path)
    (tmp_path / "export.json").write_text(
        json.dumps({"run_id": synthetic.RUN_ID, "attempt": 1, "classes": []})
    )
    found = calibrated(now, "--precision", "0.9")
    names = [i["file_name"] for i in json.loads((tmp_path / "review.json").read_text())["images"]]
    assert found.attempt == 1 and found.images == IMAGES * 0.99 - 99
    assert found.reviewed == sum(int(name[:8]) >= 100 for name in names) < len(names)
    assert "left out: 99 images processed after the export" in capsys.readouterr().out
    (tmp_path / "export.json").unlink()
    assert calibrated(now, "--precision", "0.5").attempt == 2
    assert "left out" not in capsys.readouterr().out


def test_the_same_input_gives_the_same_file(output: Path, right: dict[int, list[bool]]) -> None:
    calibrated(output)
    first = (output.parent / "calibration.json").read_bytes()
    calibrated(output)
    assert (output.parent / "calibration.json").read_bytes() == first
    content = json.loads(first)
    assert content["run_id"] == synthetic.RUN_ID and content["weights_sha256"] == "0" * 64
    assert "Clopper and Pearson" in content["bound"]


@pytest.mark.parametrize(
    "key,value,complaint",
    [
        ("run_id", "9" * 32, "was made from another run (999999999999) than"),
        ("weights_sha256", "f" * 64, "was made from other weights (ffffffffffff) than"),
        ("version", 2, "its version is 2, not 1"),
        ("groups", [{}], "is not a calibration that"),
    ],
    ids=["run", "weights", "version", "content"],
)
def test_a_calibration_of_something_else(
    output: Path,
    right: dict[int, list[bool]],
    tmp_path: Path,
    key: str,
    value: object,
    complaint: str,
) -> None:
    calibrated(output)
    content = json.loads((output.parent / "calibration.json").read_text())
    (tmp_path / "c.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(UsageError) as raised:
        load(str(tmp_path / "c.json"), open_output(str(output)))
    assert complaint in str(raised.value)
