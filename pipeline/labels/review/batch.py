"""What became of the boxes of a batch of images, and the table of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.labels.boxes import BoxBatch
from pipeline.labels.review.pairs import UNMOVED, pair
from pipeline.outputs.schema import DETECTION

KEPT, MOVED, RELABELLED, ADDED = range(4)
SOURCES = ("kept", "moved", "relabelled", "added")

# an added box has no score: no network gave it one
CORRECTED = pa.struct(
    [
        *(field.with_nullable(field.nullable or field.name == "score") for field in DETECTION),
        pa.field("source", pa.string(), nullable=False),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("image_uri", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("detections", pa.list_(CORRECTED), nullable=False),
        pa.field("deleted", pa.list_(DETECTION), nullable=False),
        pa.field("edits", pa.int32(), nullable=False),
        pa.field("table_version", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Names:
    """All classes that were shown or left.

    Attributes:
        names: those of the export first.
        ids: label id of each.
    """

    names: list[str]
    ids: np.ndarray


class Batch:
    """
    Attributes:
        shown: the boxes that people saw, labels being places in `Names`.
        owners: [n] int64, the image of each box that they left, as its place in the batch.
        classes: [n] int64.
        xyxy: [n, 4] float64, pixels.
        partners: [n] int64, the shown box that each was, -1 for none.
        sources: [n] int64, places in `SOURCES`.
        deleted: [m] bool, of the shown boxes.
        edits: [images] int64.
    """

    def __init__(
        self, shown: BoxBatch, owners: np.ndarray, classes: np.ndarray, xyxy: np.ndarray
    ) -> None:
        self.shown, self.owners, self.classes, self.xyxy = shown, owners, classes, xyxy
        self.partners, ious = pair(shown.owners, shown.xyxy, shown.labels, owners, xyxy, classes)
        known = self.partners >= 0
        renamed = np.zeros(len(owners), bool)
        renamed[known] = shown.labels[self.partners[known]] != classes[known]
        kinds = [~known, renamed, ious < UNMOVED]
        self.sources = np.select(kinds, [ADDED, RELABELLED, MOVED], KEPT)
        self.deleted = np.ones(len(shown.labels), bool)
        self.deleted[self.partners[known]] = False
        images = len(shown.ids)
        edited = owners[self.sources != KEPT]
        self.edits = np.bincount(edited, minlength=images)
        self.edits += np.bincount(shown.owners[self.deleted], minlength=images)

    @property
    def before(self) -> np.ndarray:
        """[n] class of the shown box that each left one was, -1 for an added one."""
        return np.where(self.partners >= 0, np.append(self.shown.labels, -1)[self.partners], -1)

    def table(self, names: Names, versions: Sequence[int | None]) -> pa.Table:
        """A row an image, of the schema `SCHEMA`.

        Args:
            names: all classes.
            versions: of the table of Lance that each image is in.
        """
        shown, images = self.shown, len(self.shown.ids)
        known = self.partners >= 0
        scores = np.where(known, np.append(shown.scores, np.nan)[self.partners], np.nan)
        order = np.lexsort((-scores, self.owners))
        sources = pa.array([SOURCES[k] for k in self.sources[order].tolist()], pa.string())
        masked = pa.array(scores[order].astype(np.float32), mask=~known[order])
        left = _detections(names, self.classes[order], masked, self.xyxy[order])
        corrected = pa.StructArray.from_arrays([*left, sources], fields=list(CORRECTED))
        gone = self.deleted
        lost = _detections(
            names, shown.labels[gone], pa.array(shown.scores[gone]), shown.xyxy[gone]
        )
        removed = pa.StructArray.from_arrays(lost, fields=list(DETECTION))
        columns = [
            pa.array(shown.ids),
            pa.array(shown.uris),
            *(pa.array(shown.sizes[:, k].astype(np.int32)) for k in (0, 1)),
            _lists(self.owners, images, corrected, SCHEMA.field("detections").type),
            _lists(shown.owners[gone], images, removed, SCHEMA.field("deleted").type),
            pa.array(self.edits.astype(np.int32)),
            pa.array(versions, pa.int64()),
        ]
        return pa.table(columns, schema=SCHEMA)


def _detections(
    names: Names, classes: np.ndarray, scores: pa.Array, xyxy: np.ndarray
) -> list[pa.Array]:
    """The columns of `DETECTION`."""
    return [
        pa.array(names.ids[classes].astype(np.int32)),
        pa.array([names.names[place] for place in classes.tolist()], pa.string()),
        scores,
        *(pa.array(xyxy[:, corner].astype(np.float32)) for corner in range(4)),
    ]


def _lists(owners: np.ndarray, images: int, values: pa.Array, kind: pa.DataType) -> pa.Array:
    """A list an image; values stand in the images' order."""
    counts = np.bincount(owners, minlength=images)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, values, type=kind)
