"""What a report counts, against loops over the rows, and which images it chooses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import words
from pipeline.errors import RunError
from pipeline.labels.output import Output, open_output
from pipeline.labels.report import sections, statistics, text, throughput
from pipeline.labels.report.samples import Best, Shown
from pipeline.labels.report.statistics import PER_IMAGE, SIDES_OF_BOXES, SIDES_OF_IMAGES, Statistics
from tests.support import outputs, synthetic

THRESHOLD = 40
PICTURES = 7


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Output:
    folder = tmp_path_factory.mktemp("synthetic") / "out"
    return open_output(str(synthetic.write(folder, 1500, rows_per_file=128)))


@pytest.fixture(scope="module")
def found(output: Output) -> Statistics:
    return statistics.gather(output, THRESHOLD, PICTURES)


@pytest.fixture(scope="module")
def rows(output: Output) -> list[dict[str, Any]]:
    return outputs.rows(output.url)


def at_or_over(row: dict[str, Any], score: float) -> int:
    return sum(1 for box in row["detections"] if box["score"] >= score)


def place(edges: np.ndarray, value: float) -> int:
    return max(i for i, edge in enumerate(edges.tolist()) if value >= edge)


def test_images_and_errors(found: Statistics, rows: list[dict[str, Any]]) -> None:
    assert found.images == len(rows) == 1500
    assert found.ok == sum(row["status"] == "ok" for row in rows) == 1485
    assert found.image_bytes == sum(row["image_bytes"] for row in rows)
    failures = {kind: some.images for kind, some in found.failures.items()}
    assert failures == {("decode", "truncated"): 15}
    some = found.failures["decode", "truncated"].some.samples
    assert len(some) == PICTURES
    assert (some[0].code, some[0].message) == ("truncated", "OSError: image file is truncated")
    assert {sample.image.uri for sample in some} < {
        row["image_uri"] for row in rows if row["status"] == "error"
    }


def test_scores_and_sizes(found: Statistics, rows: list[dict[str, Any]]) -> None:
    scores: Counter[tuple[str, int]] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    for row in rows:
        for box in row["detections"] or ():
            hundredth = max(k for k in range(101) if box["score"] >= k / 100)
            area = (box["xmax"] - box["xmin"]) * (box["ymax"] - box["ymin"])
            scores[box["label"], hundredth] += 1
            sizes[hundredth, place(SIDES_OF_BOXES, area**0.5)] += 1
    assert found.detections == sum(scores.values())
    for (name, hundredth), number in scores.items():
        assert found.scores[found.names.index(name), hundredth] == number
    for (hundredth, side), number in sizes.items():
        assert found.sizes[hundredth, side] == number
    assert found.sizes.sum() == found.scores.sum()


def test_images_by_number_of_boxes_and_by_size(
    found: Statistics, rows: list[dict[str, Any]]
) -> None:
    ok = [row for row in rows if row["status"] == "ok"]
    for hundredth in (0, 5, 33, 50, 99, 100):
        wanted = Counter(place(PER_IMAGE, at_or_over(row, hundredth / 100)) for row in ok)
        assert found.per_image[hundredth].tolist() == [wanted[i] for i in range(len(PER_IMAGE))]
    sides = Counter(place(SIDES_OF_IMAGES, max(row["width"], row["height"])) for row in ok)
    assert found.sides.tolist() == [sides[i] for i in range(len(SIDES_OF_IMAGES))]


def test_galleries(found: Statistics, rows: list[dict[str, Any]]) -> None:
    by_id = {row["image_id"]: row for row in rows if row["status"] == "ok"}
    low, mid, high = ((THRESHOLD + k) / 100 for k in (-10, 0, 10))
    shown = {i: at_or_over(row, mid) for i, row in by_id.items()}
    near = {i: at_or_over(row, low) - at_or_over(row, high) for i, row in by_id.items()}
    for best, counts in ((found.densest, shown), (found.uncertain, near)):
        chosen = [counts[sample.image.image_id] for sample in best.samples]
        assert chosen == sorted(counts.values(), reverse=True)[:PICTURES]
    empty = [sample.image.image_id for sample in found.empty.samples]
    assert len(empty) == PICTURES and not any(shown[i] for i in empty)
    sample = found.densest.samples[0].image
    boxes = by_id[sample.image_id]["detections"]
    assert sample.scores.tolist() == [box["score"] for box in boxes]
    assert sample.xyxy[:, 2].tolist() == [box["xmax"] for box in boxes]
    assert [found.names[c] for c in sample.classes] == [box["label"] for box in boxes]
    assert sample.scores.base is None  # or it would keep the arrays of thousands of images


def test_the_random_ones_do_not_depend_on_the_files(found: Statistics, tmp_path: Path) -> None:
    other = open_output(str(synthetic.write(tmp_path / "out", 1500, rows_per_file=1000, seed=3)))
    again = statistics.gather(other, 70, PICTURES)
    ids = [sample.image.image_id for sample in found.random.samples]
    assert ids == [sample.image.image_id for sample in again.random.samples]
    assert max(ids) > 500  # not merely the first


def test_best_keeps_the_best_of_all_that_is_offered() -> None:
    random = np.random.default_rng(0)
    keys, ids = random.integers(0, 50, 1000), np.arange(1000)
    made: list[int] = []

    def sample(row: int) -> Shown:
        made.append(row)
        return Shown(None, str(row))  # type: ignore[arg-type]

    best = Best(5)
    for start in range(0, 1000, 100):
        best.offer(keys, ids, np.arange(start, start + 100), sample)
    assert [keys[int(s.code)] for s in best.samples] == sorted(keys, reverse=True)[:5]
    assert len(made) < 50  # of the thousand
    none = Best(0)
    none.offer(keys, ids, np.arange(100), sample)
    assert none.samples == []


def test_hundredths_are_exact_at_the_threshold() -> None:
    scores = (np.arange(101) / 100).astype(np.float32)
    assert statistics.hundredths(scores).tolist() == [*range(101)]
    below = np.nextafter(scores[1:], np.float32(0))
    assert statistics.hundredths(below).tolist() == [*range(100)]


def test_categories_without_a_name_are_counted(tmp_path: Path) -> None:
    known = open_output(str(synthetic.write(tmp_path / "out", 200)))
    known.detector["categories"]["3"] = "N/A"
    found = statistics.gather(known, 50, 0)
    assert found.names[:4] == ["person", "bicycle", "unnamed 3", "unnamed 4"]
    assert found.scores[2].sum() > 0
    assert found.detections == known.counts["detections"]
    page = sections.categories(found, np.argsort(-found.scores.sum(1)), [""] * len(found.names))
    assert "unnamed 3" in page and "unnamed 4" not in page


def test_missing_rows_are_said(tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path / "out", 300, rows_per_file=100)
    sorted((folder / "detections" / "status=ok").iterdir())[1].unlink()
    with pytest.raises(RunError, match="hold 201 images, but its run.json counts 300.*jobs.verify"):
        statistics.gather(open_output(str(folder)), 50, 0)


# ------------------------------------------------------------------------------- throughput


def attempt(started: float, ended: float | None, images: int | None = None) -> throughput.Stretch:
    return throughput.Stretch(started, ended, images, {"wall": 10.0}, "host", {}, {})


def test_images_over_time_without_the_pause() -> None:
    attempts = [attempt(1000, None), attempt(90_000, 90_040, 300)]
    times = {"a": 1010.0, "b": 1020.0, "c": 90_020.0, "d": 90_040.4}
    rows = dict.fromkeys(times, 100)
    series = throughput.series(attempts, rows, times)
    assert series and series.interval == 1 and (series.files, series.others) == (4, 0)
    # 20 s until the last file of the killed attempt, then 40 s: no day in between
    assert len(series.images) == 60
    assert series.images.sum() == pytest.approx(400)
    assert series.images[:20] == pytest.approx(10)
    assert series.images[20:] == pytest.approx(5)
    assert throughput.overall(attempts) == (300, 10.0)


def test_a_copy_has_no_throughput() -> None:
    attempts = [attempt(1000, 1100, 100)]
    assert throughput.series(attempts, {"a": 50, "b": 50}, {"a": 9000.0, "b": 9001.0}) is None
    assert throughput.series(attempts, {"a": 50, "b": 50}, {}) is None
    partly = throughput.series(attempts, {"a": 50, "b": 50}, {"a": 1050.0, "b": 9001.0})
    assert partly and (partly.files, partly.others) == (1, 1)
    assert partly.images.sum() == pytest.approx(50)


def test_times_of_files(output: Output, found: Statistics) -> None:
    times = throughput.written(output)
    assert set(times) == set(found.file_rows)
    name = output.files()[0]
    assert times[str(name)] == Path(output.layout.file(name)).stat().st_mtime
    assert sum(found.file_rows.values()) == 1500


# ------------------------------------------------------------------------------- text


def test_text_is_short_and_visible() -> None:
    assert text.escaped('<a href="x">&\'') == "&lt;a href=&quot;x&quot;&gt;&amp;&#x27;"
    assert words.printable("a\nb\u202ec") == "a\ufffdb\ufffdc"
    long = words.printable("s3://bucket/" + "x" * 10_000_000 + "/name.jpg", 60)
    assert len(long) == 60 and long.startswith("s3://bucket/") and long.endswith("/name.jpg")


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1234, "1.2K"),
        (9960, "10K"),
        (999_600, "1M"),
        (3_400_000, "3.4M"),
        (2e9, "2B"),
        (0.5, "0.5"),
    ],
)
def test_compact(number: float, wanted: str) -> None:
    assert text.compact(number) == wanted


@pytest.mark.parametrize(
    ("part", "whole", "wanted"),
    [
        (0, 5, "0 %"),
        (1, 100_000, "under 0.1 %"),
        (5, 1000, "0.5 %"),
        (1, 3, "33 %"),
        (999_999, 1_000_000, "over 99.9 %"),
        (5, 5, "100 %"),
        (0, 0, "0 %"),
    ],
)
def test_percent(part: int, whole: int, wanted: str) -> None:
    assert text.percent(part, whole).replace(text.NBSP, " ") == wanted


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (0, "0 s"),
        (0.2, "under 1 s"),
        (45, "45 s"),
        (720, "12 min"),
        (12_000, "3 h 20 min"),
        (7200, "2 h"),
        (187_200, "2 d 4 h"),
    ],
)
def test_duration(seconds: float, wanted: str) -> None:
    assert text.duration(seconds).replace(text.NBSP, " ") == wanted
