"""A run's boxes beside what people made of them, written while both are read."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from pipeline.config import PIXELS
from pipeline.errors import UsageError
from pipeline.inputs.containers import lance_rows
from pipeline.labels import boxes, pairs
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.classes import Classes
from pipeline.labels.export.folder import Folder, Sender, open_target
from pipeline.labels.match import places
from pipeline.labels.originals import member
from pipeline.labels.output import Output
from pipeline.labels.readers.parquet import READ
from pipeline.labels.review.batch import SCHEMA, Batch, Names
from pipeline.labels.review.pairs import SAME, UNMOVED
from pipeline.labels.review.tally import Effort, Tally, effort
from pipeline.labels.truth import Truth
from pipeline.store import objects, urls

CORRECTIONS, RECORD = "corrections.parquet", "review.json"
OTHERS = "not in the images.csv beside the corrections"
# what of an `export.json` says which boxes people were shown
CHOICE = ("score_threshold", "thresholds", "agnostic_nms", "classes")


def review(
    output: Output,
    truth: Truth,
    classes: Classes,
    to: str,
    seconds: Effort | None = None,
    present_only: bool = False,
) -> dict[str, Any]:
    """Compare, and write `corrections.parquet` and, last, `review.json`.

    Args:
        output: the run's.
        truth: what people left, by `check_run`; its images are those that were reviewed.
        classes: the detections that they were shown, and under which names.
        to: folder, as a path or any fsspec URL; empty, or not there yet.
        seconds: how long people take.
        present_only: whether most images of the truth may be none of the run's, and are left out.

    Returns:
        The content of `review.json`.

    Raises:
        UsageError: the corrections are of other images, or the folder cannot be used.
        RunError: the output is damaged.
    """
    fs, root = open_target(to)
    there = _places(output, truth, present_only)
    found = _of_their_exports(truth, there)
    names, truth_classes = _names(output, truth, classes)
    tally = Tally(len(names.names))
    with _writer(fs, root, output) as writer:
        for batch in _batches(output, truth, classes.choose, found, truth_classes):
            tally.add(batch)
            writer.write_table(batch.table(names, _versions(output, batch.shown)))
    absent = len(truth.ids) - len(there)
    unreviewed = truth.unreviewed + Counter({OTHERS: len(there) - len(found)})
    record = _record(output, truth, tally, names, seconds or Effort()) | {
        "images": tally.images() | {"not_reviewed": unreviewed, "not_in_the_run": absent}
    }
    objects.put(fs, f"{root}/{RECORD}", json.dumps(record, indent=2, ensure_ascii=False).encode())
    return record


@contextlib.contextmanager
def _writer(fs: AbstractFileSystem, root: str, output: Output) -> Iterator[pq.ParquetWriter]:
    """Of the corrections, which are there once all of it was written."""
    read = {name: output.record["identity"].get(name) for name in PIXELS}
    schema = SCHEMA.with_metadata({READ: json.dumps(read)})
    with ThreadPoolExecutor(1) as threads:
        folder = Folder(Sender(fs, threads), root)
        try:
            writer = folder.parquet(CORRECTIONS, schema)
            yield writer
            writer.close()
            folder.close()
        finally:
            folder.abandon()


def check_run(output: Output, truth: Truth) -> None:
    """
    Raises:
        UsageError: an export that was corrected is not of this run, or showed other boxes than
            another one.
    """
    for record in truth.exports:
        if record["run_id"] != output.record["run_id"]:
            raise UsageError(
                f"{urls.public(truth.url)} are corrections of another run: export.json beside "
                f"them names run {record['run_id']} ({record.get('output')}), but {output.url} is "
                f"run {output.record['run_id']}; give the output of that run"
            )
        for name in CHOICE:
            if record.get(name) != truth.exports[0].get(name):
                raise UsageError(
                    f"{urls.public(truth.url)} holds corrections of exports that showed other "
                    f"boxes, by {name} in their export.json: review them one by one"
                )


def _of_their_exports(truth: Truth, found: dict[int, int]) -> dict[int, int]:
    """Of what `_places` has found, the images of the export beside the corrections. Which boxes
    another one has shown of the others, in the same project, is not known.

    Raises:
        UsageError: there is none.
    """
    if not (truth.exports and truth.strangers.any()):
        return found
    left = {k: place for k, place in found.items() if not truth.strangers[place]}
    if not left:
        raise UsageError(
            f"no image of {urls.public(truth.url)} is in the images.csv beside it: put it into the "
            "folder of the export that was corrected"
        )
    return left


def _places(output: Output, truth: Truth, present_only: bool) -> dict[int, int]:
    """As `match.places`, where most images are found.

    Raises:
        UsageError: they are not.
    """
    found = places(output, truth)
    if not found:
        raise UsageError(f"every image of {output.url} failed: there is nothing to review")
    absent = len(truth.ids) - len(found)
    if 2 * absent > len(truth.ids) and not present_only:
        raise UsageError(
            f"{absent:,} of the {len(truth.ids):,} images of {urls.public(truth.url)} are not "
            f"among those that {output.url} has detections of: give the corrections of its "
            "images, or --present-only to leave the others out"
        )
    return found


def _names(output: Output, truth: Truth, classes: Classes) -> tuple[Names, np.ndarray]:
    """All classes, and the class of each box of the truth as a place among them."""
    names, ids = list(classes.names), list(classes.ids)
    known = {k: place for place, k in enumerate(truth.ids_of(names)) if k >= 0}
    own = {name: k for k, name in output.every_category.items()}
    free = max([*own.values(), *ids]) + 1
    for name, category in truth.category_ids.items():
        if category not in known:
            known[category] = len(names)
            names.append(name)
            # its own in the run, unless another has taken that by a new name
            ids.append(own[name] if name in own and own[name] not in ids else free)
            free += ids[-1] == free
    found = np.array(sorted(known))  # in COCO ids go up to 2^31
    places = np.array([known[category] for category in found.tolist()], np.int32)
    return Names(names, np.array(ids)), places[np.searchsorted(found, truth.box_categories)]


def _batches(
    output: Output,
    truth: Truth,
    shown_of: Callable[[BoxBatch], BoxBatch],
    found: dict[int, int],
    truth_classes: np.ndarray,
) -> Iterator[Batch]:
    order = np.flatnonzero(~truth.crowds).astype(np.int32)
    sorted_places = truth.image_places[order].astype(np.int32)
    if (np.diff(sorted_places) < 0).any():  # as only COCO's may be
        rising = np.argsort(sorted_places, kind="stable")
        order, sorted_places = order[rising], sorted_places[rising]
    for table in output.tables(boxes.COLUMNS, ("ok",), "reviewing"):
        table = table.filter(pa.array([k in found for k in table["image_id"].to_pylist()]))
        if not table.num_rows:
            continue
        shown = shown_of(boxes.from_table(table))
        mine = np.array([found[k] for k in shown.ids.tolist()], np.int32)
        first = np.searchsorted(sorted_places, mine)
        many = np.searchsorted(sorted_places, mine, side="right") - first
        ((owners, rows),) = pairs.enumerated(first, many, at_once=len(order))
        chosen = order[rows]
        xyxy = truth.xywh[chosen].copy()
        xyxy[:, 2:] += xyxy[:, :2]
        yield Batch(shown, owners, truth_classes[chosen], xyxy)


def _versions(output: Output, images: BoxBatch) -> list[int | None]:
    """Of a table of Lance, whose rows a change may number anew, that which the run has read."""
    found: list[int | None] = []
    for image_id, uri in zip(images.ids.tolist(), images.uris, strict=True):
        row = member(output, image_id, uri) if lance_rows.is_place(uri) else None
        is_row = row is not None and row["source_kind"] == lance_rows.KIND
        found.append(row["source_place"][0] if row and is_row else None)
    return found


def _record(
    output: Output, truth: Truth, tally: Tally, names: Names, seconds: Effort
) -> dict[str, Any]:
    totals = tally.totals()
    relabels = [
        {"from": names.names[before], "to": names.names[after], "boxes": count}
        for (before, after), count in tally.relabels.most_common()
    ]
    return {
        "output": output.url,
        "run_id": output.record["run_id"],
        "corrections": urls.public(truth.url),
        "iou_same": SAME,
        "iou_unmoved": UNMOVED,
        "boxes": totals,
        "edits": sum(totals[key] for key in ("moved", "relabelled", "deleted", "added")),
        "time": effort(totals, seconds),
        "relabels": relabels,
        "categories": tally.categories(names.names),
        "boxes_left_out": truth.left_out,
        "crowds_left_out": int(np.count_nonzero(truth.crowds)),
    }
