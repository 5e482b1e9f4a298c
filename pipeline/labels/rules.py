"""What holds for every row of an output; checked a file at a time, without a loop over rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.labels import boxes
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.output import Output
from pipeline.outputs.schema import ROW, SCHEMA_VERSION

RULES = {
    "uris": "each row has the URI that the manifest has for its id",
    "run": "each row has the run's run_id and model_id",
    "status": "ok rows have detections and no error; error rows a reason and no detections",
    "sizes": "ok rows have a width and a height; num_detections is the number of detections",
    "boxes": "boxes are inside their image and have an area",
    "scores": "scores are sorted, and between the run's threshold and 1",
    "labels": "label ids are classes of the run, with their names",
}
# float32, rounded when torchvision scales boxes back to the image
TOLERANCE = 1e-6
NAMED_BREACHES = 3

Breach = tuple[str, np.ndarray, str]


@dataclass
class Check:
    """What one rule found.

    Attributes:
        rule: in words.
        breaches: how often it is broken.
        examples: of some.
    """

    rule: str
    breaches: int = 0
    examples: list[str] = field(default_factory=list)

    def breach(self, example: str, count: int = 1) -> None:
        if count:
            self.breaches += count
            if len(self.examples) < NAMED_BREACHES:
                self.examples.append(example)


def differences(schema: pa.Schema, output: Output) -> Iterator[str]:
    """In what a file's schema and metadata are not those of the output, in words."""
    known = output.record.get("weights")
    known = known if isinstance(known, dict) else {}
    if not schema.equals(output.schema):
        yield "its schema is not that of the first file"
    for column in ROW:
        if column.name not in schema.names or not schema.field(column.name).equals(column):
            yield f"column {column.name} is missing or not {column.type}"
    try:
        detector = json.loads((schema.metadata or {}).get(b"detector", b"null"))
    except ValueError:
        detector = None
    if not isinstance(detector, dict) or detector.get("schema_version") != SCHEMA_VERSION:
        yield f"no `detector` of schema version {SCHEMA_VERSION} in its metadata"
    elif detector != output.detector:
        yield "its `detector` is not that of the first file"
    elif any(
        detector.get(name) != known.get(other)
        for name, other in (
            ("weights_sha256", "sha256"),
            ("trained", "trained"),
            ("model_id", "model_id"),
            ("categories", "categories"),
        )
    ):
        yield "the network in its `detector` is not that of run.json"


def broken(table: pa.Table, status: str, output: Output, expected: pa.Array) -> Iterator[Breach]:
    """The rules that rows break.

    Args:
        table: rows of one file, in the schema `ROW`.
        status: of the file.
        output: whose run, classes and threshold hold.
        expected: [rows] the manifest's URIs.

    Yields:
        A rule's name, the rows that break it ([n] int64, n > 0), and how.
    """
    for rule, bad, how in _of_rows(table, status, output, expected):
        rows = np.flatnonzero(pc.fill_null(bad, True).to_numpy(zero_copy_only=False))
        if len(rows):
            yield rule, rows, how
    inferred = table["detections"].is_valid()
    places = np.flatnonzero(inferred.to_numpy())
    table = table.filter(inferred)
    found = boxes.from_table(table)
    for rule, of_boxes, how in _of_boxes(found, table, output):
        if of_boxes.any():
            yield rule, places[found.owners[of_boxes]], how


def _of_rows(
    table: pa.Table, status: str, output: Output, expected: pa.Array
) -> Iterator[tuple[str, pa.Array, str]]:
    yield "uris", pc.not_equal(table["image_uri"], expected), "does not have the manifest's URI"
    run_id, model_id = output.record.get("run_id"), output.detector.get("model_id")
    yield "run", pc.not_equal(table["run_id"], run_id or ""), "belongs to another run"
    yield "run", pc.not_equal(table["model_id"], model_id or ""), "belongs to another model"
    length = pc.list_value_length(table["detections"])
    if status == "ok":
        yield "status", table["detections"].is_null(), "is ok, but has no list of detections"
        for name in ("error_stage", "error_code", "error_message"):
            yield "status", table[name].is_valid(), f"is ok, but has an {name}"
        small = pc.or_(pc.less(table["width"], 1), pc.less(table["height"], 1))
        yield "sizes", small, "has no width or height"
        wrong = pc.not_equal(table["num_detections"], length)
        yield "sizes", wrong, "has a num_detections that is not the number of its detections"
    else:
        yield "status", table["detections"].is_valid(), "is an error, but has detections"
        yield "status", table["num_detections"].is_valid(), "is an error, but has num_detections"
        for name in ("error_stage", "error_code", "error_message"):
            yield "status", table[name].is_null(), f"is an error without {name}"


def _of_boxes(
    found: BoxBatch, table: pa.Table, output: Output
) -> Iterator[tuple[str, np.ndarray, str]]:
    low, high = found.xyxy[:, :2], found.xyxy[:, 2:]
    size = found.sizes[found.owners]
    # so written that NaN is a breach
    inside = (low >= 0) & (high <= size * (1 + TOLERANCE))
    yield "boxes", ~np.all(inside, axis=1), "has a box outside the image"
    yield "boxes", ~np.all(low < high, axis=1), "has a box without area"
    threshold = np.float32(output.detector.get("score_threshold", 0.0))
    in_range = (found.scores >= threshold) & (found.scores <= 1)
    yield "scores", np.logical_not(in_range), "has a score out of range"
    unsorted = np.zeros(len(found.scores), bool)
    same = found.owners[1:] == found.owners[:-1]
    unsorted[1:] = same & ~(found.scores[1:] <= found.scores[:-1])
    yield "scores", unsorted, "has unsorted scores"
    yield "labels", _mislabelled(found, table, output), "has an unknown or misnamed class"


def _mislabelled(found: BoxBatch, table: pa.Table, output: Output) -> np.ndarray:
    """[m] bool, the detections whose label id or label is none of the run's."""
    names = {int(k): v for k, v in output.detector.get("categories", {}).items()}
    classes = int(output.detector.get("options", {}).get("num_classes", 1))
    values = table["detections"].combine_chunks().flatten()
    pairs = pc.dictionary_encode(values.field("label"))
    texts = [*pairs.dictionary.to_pylist(), None]
    codes = pc.fill_null(pairs.indices, len(texts) - 1).to_numpy().astype(np.int64)
    known = np.zeros((classes, len(texts)), bool)
    for label in range(1, classes):
        known[label] = [text == names.get(label) for text in texts]
    valid = (found.labels > 0) & (found.labels < classes)
    right: np.ndarray = valid & known[np.where(valid, found.labels, 0), codes]
    return ~right
