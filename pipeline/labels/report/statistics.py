"""What a report tells of an output, gathered in one pass over its rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import words
from pipeline.labels import boxes, classes
from pipeline.labels.boxes import BoxBatch, Image
from pipeline.labels.calibration import Calibration
from pipeline.labels.output import Output
from pipeline.labels.report.samples import Best, Shown
from pipeline.outputs.files import FileName, check_count

COLUMNS = (
    "image_id",
    "image_uri",
    "status",
    "width",
    "height",
    "image_bytes",
    "detections",
    "error_stage",
    "error_code",
    "error_message",
)
# Bins are named by their lower edges; the last of each is open. Scores are counted in hundredths,
# the last bin being 1 itself, so that sums over bins are exact for a threshold of two decimals. In
# float32, as an export compares them: as float64, the score 0.29 would be below 0.29.
SCORES = (np.arange(101) / 100).astype(np.float32)
SIDES_OF_BOXES = np.array([0, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024])
SIDES_OF_IMAGES = np.array([0, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192])
PER_IMAGE = np.array([0, 1, 2, 3, 5, 9, 17, 33, 65, 129])
# COCO's limits between small, medium and large: the square root of the area
SMALL, LARGE = 32, 96
NEAR = 10  # hundredths from the threshold within which a score is uncertain
NAMED_FAILURES = 3


@dataclass
class Failures:
    """The images that failed in one way, and some of them."""

    images: int
    some: Best


@dataclass
class Statistics:
    """Counts of a whole output, and samples of its images.

    Attributes:
        threshold: hundredths; the score at which galleries are chosen.
        pictures: samples in each gallery.
        names: of the categories that the rows below stand for.
        unnamed: those among them that stand for an id without a name.
        measure: what the scores are, in words.
        images, ok: rows in all, and with status ok.
        image_bytes: sum over the encoded images whose size is known.
        scores: [categories, 101] detections by category and score.
        sizes: [101, len(SIDES_OF_BOXES)] detections by score and square root of the area, pixels.
        per_image: [101, len(PER_IMAGE)] images by number of detections at or over k hundredths.
        sides: [len(SIDES_OF_IMAGES)] images by long side, pixels; failed images left out.
        failures: by stage and code.
        file_rows: rows by name of the file.
        agnostic_nms: IoU above which a box is a double of a better one, and left out.
        doubles: that were left out.
        random, densest, uncertain, empty: the galleries.
    """

    threshold: int
    pictures: int
    names: list[str]
    unnamed: frozenset[str] = frozenset()
    measure: str = "score"
    images: int = 0
    ok: int = 0
    image_bytes: int = 0
    failures: dict[tuple[str, str], Failures] = field(default_factory=dict)
    file_rows: dict[str, int] = field(default_factory=dict)
    agnostic_nms: float | None = None
    doubles: int = 0

    def __post_init__(self) -> None:
        self.scores = np.zeros((len(self.names), len(SCORES)), np.int64)
        self.sizes = np.zeros((len(SCORES), len(SIDES_OF_BOXES)), np.int64)
        self.per_image = np.zeros((len(SCORES), len(PER_IMAGE)), np.int64)
        self.sides = np.zeros(len(SIDES_OF_IMAGES), np.int64)
        self.random = Best(self.pictures)
        self.densest = Best(self.pictures)
        self.uncertain = Best(self.pictures)
        self.empty = Best(self.pictures)

    @property
    def detections(self) -> int:
        return int(self.scores.sum())

    def add(self, rows: pa.Table, chosen: classes.Classes) -> None:
        """Count rows that have `COLUMNS`."""
        is_ok = pc.equal(rows["status"], "ok")
        ok, failed = rows.filter(is_ok), rows.filter(pc.invert(is_ok))
        self.images += len(rows)
        self.ok += len(ok)
        self.image_bytes += pc.sum(rows["image_bytes"]).as_py() or 0
        if len(ok):
            every = chosen.with_doubles(boxes.from_table(ok))
            found = chosen.without_doubles(every)
            self.doubles += len(every.labels) - len(found.labels)
            bins = hundredths(found.scores)
            self._count(found, bins)
            self._sample(found, _at_or_over(found.owners, bins, len(ok)))
        if len(failed):
            self._add_failed(failed)

    def _count(self, found: BoxBatch, bins: np.ndarray) -> None:
        count_pairs(self.scores, found.labels, bins)
        width, height = (found.xyxy[:, 2:] - found.xyxy[:, :2]).astype(float).T
        side = np.sqrt(np.maximum(width * height, 0))
        count_pairs(self.sizes, bins, np.searchsorted(SIDES_OF_BOXES, side, "right") - 1)
        sides = np.searchsorted(SIDES_OF_IMAGES, found.sizes.max(1), "right") - 1
        self.sides += np.bincount(sides, minlength=len(self.sides))

    def _sample(self, found: BoxBatch, counts: np.ndarray) -> None:
        """
        Args:
            counts: [images, 101] detections at or over each hundredth.
        """
        last = len(PER_IMAGE) - 1
        group = np.searchsorted(PER_IMAGE, np.arange(PER_IMAGE[last] + 1), "right") - 1
        groups = group[np.minimum(counts, PER_IMAGE[last])]
        count_pairs(self.per_image, np.tile(np.arange(len(SCORES)), len(counts)), groups.ravel())

        def sample(row: int) -> Shown:
            return Shown.of(found.image(row))

        shown = counts[:, self.threshold]
        below, above = self.threshold - NEAR, self.threshold + NEAR
        near = counts[:, max(below, 0)] - (counts[:, above] if above < len(SCORES) else 0)
        everyone = np.arange(len(counts))
        self.random.offer(np.zeros(len(counts)), found.ids, everyone, sample)
        self.densest.offer(shown, found.ids, np.flatnonzero(shown), sample)
        self.uncertain.offer(near, found.ids, np.flatnonzero(near), sample)
        self.empty.offer(np.zeros(len(counts)), found.ids, np.flatnonzero(shown == 0), sample)

    def _add_failed(self, failed: pa.Table) -> None:
        stages, codes = (failed[f"error_{name}"].to_pylist() for name in ("stage", "code"))
        rows: dict[tuple[str, str], list[int]] = {}
        for row, kind in enumerate(zip(stages, codes, strict=True)):
            rows.setdefault((str(kind[0]), str(kind[1])), []).append(row)
        ids = failed["image_id"].to_numpy()
        for kind, places in rows.items():
            size = max(self.pictures, NAMED_FAILURES)
            known = self.failures.setdefault(kind, Failures(0, Best(size)))
            known.images += len(places)
            known.some.offer(
                np.zeros(len(ids)), ids, np.array(places), lambda row: _failed(failed, row)
            )


def gather(
    output: Output,
    threshold: int,
    pictures: int,
    calibration: Calibration | None = None,
    agnostic_nms: float | None = None,
) -> Statistics:
    """
    Args:
        output: a finished run's.
        threshold: hundredths, 0 to 100; what is at or over it is shown.
        pictures: samples wanted for each gallery.
        calibration: by which scores become probabilities, if any.
        agnostic_nms: see `Classes`.

    Raises:
        RunError: a file cannot be read, or rows are missing.
    """
    chosen = classes.choose(
        output.every_category, calibration=calibration, agnostic_nms=agnostic_nms
    )
    unnamed = frozenset(chosen.names) - set(output.categories.values())
    measure = "probability" if calibration else "score"
    found = Statistics(
        threshold, pictures, chosen.names, unnamed, measure, agnostic_nms=agnostic_nms
    )

    def counted(name: FileName, rows: int) -> None:
        found.file_rows[str(name)] = rows

    for table in output.tables(COLUMNS, task="reading", counted=counted):
        found.add(table, chosen)
    held = found.detections + found.doubles
    check_count(output.layout, held, output.counts["detections"], "detections")
    return found


def hundredths(scores: np.ndarray) -> np.ndarray:
    """[n] int, the bins of scores: 0 to 100."""
    return np.searchsorted(SCORES, scores, "right") - 1


def count_pairs(counts: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """Add one at each pair of a row and a column."""
    places = rows * counts.shape[1] + columns
    counts += np.bincount(places, minlength=counts.size).reshape(counts.shape)


def _at_or_over(owners: np.ndarray, bins: np.ndarray, images: int) -> np.ndarray:
    """[images, 101] the number of an image's detections at or over each hundredth."""
    counts = np.zeros((images, len(SCORES)), np.int64)
    count_pairs(counts, owners, bins)
    return np.asarray(np.cumsum(counts[:, ::-1], axis=1)[:, ::-1])


def _failed(table: pa.Table, row: int) -> Shown:
    values = {name: table[name][row].as_py() for name in COLUMNS if name != "detections"}
    image = Image(
        image_id=values["image_id"],
        uri=values["image_uri"],
        width=values["width"] or 0,
        height=values["height"] or 0,
        classes=np.empty(0, np.int64),
        scores=np.empty(0, np.float32),
        xyxy=np.empty((0, 4), np.float32),
    )
    return Shown(
        image, str(values["error_code"]), words.printable(values["error_message"] or "no message")
    )
