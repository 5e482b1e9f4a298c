"""An output in the format of another program, written while it is read."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from fsspec import AbstractFileSystem

from pipeline import words
from pipeline.config import Config
from pipeline.errors import RunError, UsageError, nearest
from pipeline.inputs.sources import open_source
from pipeline.labels import boxes, classes, originals
from pipeline.labels.annotations import load_truth
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.calibration import Calibration, load
from pipeline.labels.export import located
from pipeline.labels.export.folder import Sender, open_target
from pipeline.labels.export.formats import yolo
from pipeline.labels.export.formats.cvat_video import Videos
from pipeline.labels.export.formats.folders import Folders
from pipeline.labels.export.formats.pixels import Pixels, drawn
from pipeline.labels.export.naming import FRAME, Names, frame_name, input_folder, relative_name
from pipeline.labels.export.parts import FORMATS, MAX_OPEN, Parts
from pipeline.labels.export.projection import Projection
from pipeline.labels.export.target import Item, Job, Options
from pipeline.labels.match import places
from pipeline.labels.output import Output, open_output
from pipeline.labels.redone import among, redone
from pipeline.labels.truth import Truth
from pipeline.store import objects, urls

SENDERS = 32


def export(output: str, options: Options) -> dict[str, Any]:
    """Write the detections of a finished run in another program's format.

    Images that failed are left out: they are not known to be background. Images in which nothing
    was found are exported as such.

    Args:
        output: of the run.
        options: what to export, and how.

    Returns:
        What is written last, as `export.json`: format, place, run, thresholds, classes, counts.

    Raises:
        UsageError: output, options, annotations or target cannot be used, or no image is where
            its format needs it to be.
        RunError: the output is damaged.
    """
    _check_format(options.format)
    projection = Projection() if FORMATS[options.format].on_a_map else None
    run = open_output(output)
    kept = classes.choose(
        run.categories,
        options.score_threshold,
        options.thresholds,
        options.classes,
        agnostic_nms=options.agnostic_nms,
    )
    calibration = load(options.accept, run) if options.accept else None
    anew = redone(run, calibration.attempt if calibration else None)
    truth = _truth(options.annotations, kept) if options.annotations else None
    wanted = _listed(options.images) if options.images else None
    videos = Videos(run, MAX_OPEN) if options.format == "cvat-video" else None
    fs, root = open_target(options.to)
    found = places(run, truth, wanted) if truth else {}
    model_id = str(run.detector["model_id"])
    last_frames = videos.last_frames if videos else {}
    job = Job(
        options, kept, model_id, run.record, truth, Counter(), found, calibration, anew, last_frames
    )
    images = _images(run, job, wanted, videos)
    _write(_items(run, job, images, projection), job, fs, root)
    record = _record(run, job)
    if projection:
        record["crs"] = projection.record()
    objects.put(fs, f"{root}/export.json", json.dumps(record, indent=2).encode())
    return record


def _check_format(name: str) -> None:
    if name not in FORMATS:
        raise UsageError(
            f"--format has an unknown name {nearest(name, FORMATS)}; "
            f"it is one of {', '.join(FORMATS)}"
        )


def _truth(annotations: str, kept: classes.Classes) -> Truth:
    truth = load_truth(annotations)
    if max(truth.ids_of(kept.names), default=-1) < 0:
        raise UsageError(
            f"{annotations} has none of the classes as a category; rename them with --classes"
        )
    return truth


def _write(items: Iterator[Item], job: Job, fs: AbstractFileSystem, root: str) -> None:
    """Write one set of the images, or two: those that are accepted, and the others."""
    with ExitStack() as stack:
        sender = Sender(fs, stack.enter_context(ThreadPoolExecutor(SENDERS)))
        roots = {False: root}
        if job.calibration:
            roots = {True: f"{root}/accepted", False: f"{root}/review"}
        sets = {key: stack.enter_context(Parts(sender, at, job)) for key, at in roots.items()}
        for item in items:
            accepted = item.image.image_id in job.accepted
            sets[accepted].add(item)
            job.accepted.discard(item.image.image_id)
            if accepted:
                job.counts["images_accepted"] += 1
                job.counts["boxes_accepted"] += len(item.image.scores)


def _listed(url: str) -> set[str]:
    """The URIs in a table."""
    tables = open_source(Config(input=url, output=url)).read()
    return {uri for table in tables for uri in table["image_uri"].to_pylist()}


def _items(
    run: Output, job: Job, images: Iterator[boxes.Image], projection: Projection | None
) -> Iterator[Item]:
    shard = FORMATS[job.options.format]
    named = _named(images, run, job)
    if projection:
        return located.items(run, job, projection, named)
    if issubclass(shard, Pixels):
        return drawn(shard, _read(run, job, named), job)
    if job.options.with_images or (shard is Folders and not job.options.link):
        return _copied(_read(run, job, named))
    return (Item(image, name, None) for image, name in named)


def _read(run: Output, job: Job, named: Iterator[tuple[boxes.Image, str]]) -> Iterator[Item]:
    """The images with their bytes."""
    listed = ((image.image_id, image.uri, (image, name)) for image, name in named)
    for (image, name), data in originals.read_many(run, listed):
        if isinstance(data, bytes):
            yield Item(image, name, data)
        else:
            job.leave_out("images_unreadable", image, data)


def _copied(items: Iterator[Item]) -> Iterator[Item]:
    """The images with the bytes that their copies have."""
    for item in items:
        if item.data is not None and FRAME.search(item.image.uri):
            yield replace(item, data=originals.as_png(item.data))
        else:
            yield item


def _images(
    run: Output, job: Job, wanted: set[str] | None, videos: Videos | None
) -> Iterator[boxes.Image]:
    counts = job.counts
    matched = 0
    tables = videos.tables() if videos else run.tables(boxes.COLUMNS, ("ok",), "exporting")
    for table in tables:
        if wanted is not None:
            table = table.filter([uri in wanted for uri in table["image_uri"].to_pylist()])
            matched += table.num_rows
        if videos:
            table = videos.present(table, counts)
        found = boxes.from_table(table)
        if not (np.isfinite(found.xyxy).all() and np.isfinite(found.scores).all()):
            raise RunError(
                f"{run.url} has boxes that are not numbers; see {words.command('verify')} {run.url}"
            )
        chosen = job.classes.with_doubles(found)
        counts["boxes_left_out"] += len(found.labels) - len(chosen.labels)
        single = job.classes.without_doubles(chosen)
        counts["doubles_left_out"] += len(chosen.labels) - len(single.labels)
        if job.calibration:
            job.accepted.update(_accepted(found, single, job, job.calibration))
        yield from single.images()
    if wanted is None:
        counts["images_failed"] = run.counts["images"] - run.counts["ok"]
        return
    counts["images_listed_but_not_found"] = len(wanted) - matched
    if not matched:
        raise UsageError(
            f"none of the {len(wanted):,} images in {job.options.images} has detections in "
            f"{run.url}; its URIs must be those of the output"
        )


def _accepted(found: BoxBatch, chosen: BoxBatch, job: Job, calibration: Calibration) -> list[int]:
    """Ids of the images that have boxes, all of which are accepted.

    Args:
        found: all boxes, with the run's own labels.
        chosen: those of them that are exported.
    """
    sure = job.classes.choose(found.keep(calibration.accepted(found), found.labels))
    counts = np.diff(chosen.starts)
    same = (counts > 0) & (counts == np.diff(sure.starts))
    # an unsure box may stand in the place of one that is its double
    ours, theirs = (side.keep(same[side.owners], side.labels) for side in (chosen, sure))
    differs = (ours.xyxy != theirs.xyxy).any(1) | (ours.labels != theirs.labels)
    same[ours.owners[differs]] = False
    # of which the calibration says nothing
    anew = among(chosen.ids, job.redone)
    job.counts["images_after_calibration"] += int(np.count_nonzero(anew))
    same &= ~anew
    accepted: list[int] = chosen.ids[same].tolist()
    return accepted


def _named(
    images: Iterator[boxes.Image], run: Output, job: Job
) -> Iterator[tuple[boxes.Image, str]]:
    folders = input_folder(run.input)
    names = Names()
    shard = FORMATS[job.options.format]
    is_file = shard.named_files or shard.needs_images or (job.options.with_images and shard.images)
    named = names.safe if is_file else names.own
    for image in images:
        name = relative_name(image.uri, folders)
        if job.options.format == "yolo":
            name = yolo.without_images_folders(name)
        if job.options.format == "cvat-video":
            name = frame_name(image.uri, image.frame, folders)
        if shard.suffix:
            name = posixpath.splitext(name)[0] + shard.suffix
        yield image, named(name, image.image_id)


def _record(run: Output, job: Job) -> dict[str, Any]:
    options = job.options
    entries = [
        {"id": k, "name": name, "label_ids": np.flatnonzero(job.classes.places == place).tolist()}
        for place, (k, name) in enumerate(zip(job.classes.ids, job.classes.names, strict=True))
    ]
    return {
        "format": options.format,
        "output": run.url,
        "run_id": run.record["run_id"],
        "attempt": len(run.record["attempts"]),
        "model_id": job.model_id,
        "weights_sha256": run.detector["weights_sha256"],
        "score_threshold": options.score_threshold,
        "thresholds": dict(options.thresholds),
        "agnostic_nms": options.agnostic_nms,
        "classes": entries,
        "accept": urls.public(options.accept) if options.accept else None,
        "accept_no_boxes_of": [
            name
            for group in (job.calibration.groups if job.calibration else ())
            for name in group.categories
            if group.threshold is None
        ],
        "counts": {"images": 0, "boxes": 0, **job.counts},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
