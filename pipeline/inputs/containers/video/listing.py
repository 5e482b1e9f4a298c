"""Videos among the files of a listing, and the rows of their frames."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import numpy as np
import pyarrow as pa
from fsspec import AbstractFileSystem

from pipeline import words
from pipeline.config import EXTENSIONS_BEFORE, IMAGE_EXTENSIONS, VIDEO_EXTENSIONS, Config
from pipeline.errors import UsageError
from pipeline.inputs import readers
from pipeline.inputs.containers import members
from pipeline.inputs.containers.ranged import open_ranged
from pipeline.inputs.containers.video.choice import Choice
from pipeline.inputs.containers.video.flaws import Flaw, Flawed, reason
from pipeline.inputs.containers.video.opening import check_installed
from pipeline.inputs.containers.video.process import DEATHS, Died, Process
from pipeline.inputs.containers.video.timeline import Timeline
from pipeline.inputs.entries import Entry
from pipeline.outputs.manifest import FRAME, LISTED, MEMBER
from pipeline.store import objects, urls

log = logging.getLogger(__name__)
# `source_kind` of a frame, whose `source_place` is a `frames.Place`, and of a video that cannot be
# listed to its end: a `Flaw` and the milliseconds until there
KIND, FLAWED = "video", "video_flaw"
SCHEMA = pa.schema([*LISTED, *MEMBER, *FRAME])
# of the text of a time; of one video all have as many as tell its frames apart
DIGITS = (3, 6, 10)
# what a BMP has before its pixels
BMP_BYTES = 54


def endings(config: Config, named: set[str]) -> set[str]:
    """The endings of files that are videos to a run; none where it does not read them.

    Args:
        config: the run's.
        named: the endings that its input has.

    Raises:
        UsageError: none is; or no frames are chosen, and some are; or videos cannot be read here.
    """
    given = set(config.extensions) & set(VIDEO_EXTENSIONS)
    asked = named & set(VIDEO_EXTENSIONS) | given
    if not config.reads_videos:
        if asked:
            raise UsageError(
                f".{min(asked)} files are videos: choose their frames with --fps (such as --fps "
                "1), --every-nth or --keyframes"
            )
        return set()
    check_installed()
    if config.extensions in (IMAGE_EXTENSIONS, *EXTENSIONS_BEFORE):
        return set(VIDEO_EXTENSIONS)
    if not asked:
        raise UsageError("fps, every_nth and keyframes are for videos, and extensions names none")
    return asked


class VideoListing:
    """The frames of videos as rows of a manifest. Thread-safe."""

    def __init__(self, config: Config, fs: AbstractFileSystem, path: str) -> None:
        """
        Args:
            config: the run's.
            fs: of the input.
            path: likewise.
        """
        self.choice = Choice(config.fps, config.every_nth, config.keyframes)
        self.max_pixels, self.fs, self.path = config.max_pixels, fs, path
        self.seconds, self.max_whole = config.fetch_timeout, config.max_object_bytes
        self.lock = threading.Lock()
        self.videos = self.frames = self.sparse = 0
        self.slots = threading.Semaphore(2 * (os.cpu_count() or 1))  # stores keep them waiting
        self.idle: list[Process] = []

    def close(self) -> None:
        """End the processes that have read videos."""
        while self.idle:
            self.idle.pop().close()

    def tables(self, listed: Entry, schema: pa.Schema, first: int) -> Iterator[pa.Table]:
        """The frames that are chosen of a video, then a row for what of it cannot be read.

        Args:
            listed: the video.
            schema: `SCHEMA`, and what is null here.
            first: rows of the first table.

        Raises:
            UsageError: the video is all of the input, and cannot be read.
            OSError: of the store.
        """
        path, size, version = listed
        url = urls.url_of(self.fs, path)
        try:
            timeline = self._timeline(path, size)
        except Flawed as error:
            if path == self.path:
                why = reason(error.flaw, 0)[1]
                raise UsageError(f"cannot read {urls.public(url)}: {why}") from error
            yield _flawed(url, version, error.flaw, 0, schema)
            return
        except OSError as error:
            if path == self.path:
                raise
            row = [url, None, version, url, members.UNREADABLE, members.unlisted(error)]
            yield pa.Table.from_pylist([dict(zip(schema.names, row, strict=False))], schema)
            return
        numbers = self._count(timeline)
        times = _times(timeline)
        start = 0
        for rows in chain([first], repeat(readers.BATCH_ROWS)):
            if not len(some := numbers[start : start + rows]):
                break
            columns = _columns(url, version, timeline, some, times)
            unknown = [pa.nulls(len(some), kind) for kind in schema.types[len(SCHEMA) :]]
            yield pa.table([*columns, *unknown], schema=schema)
            start += rows
        if timeline.flaw is not None:
            yield _flawed(url, version, timeline.flaw, timeline.end, schema)

    def _timeline(self, path: str, size: int | None) -> Timeline:
        file = open_ranged(self.fs, path, size, self.max_whole)
        if file.size > self.max_whole and not objects.gives_ranges(self.fs, path, file.size):
            raise Flawed(Flaw.UNRANGED)
        with self.slots:
            for _ in range(DEATHS):
                file = file.again()
                request = ("timeline", file.size, self.max_pixels, self.seconds)
                with self.lock:
                    waiting = self.idle.pop() if self.idle else None
                process = waiting or Process()
                try:
                    timeline: Timeline = process.ask(file, *request)
                    return timeline
                except Died as error:
                    if error.hangs:
                        raise Flawed(Flaw.HANGS) from error
                finally:
                    if not process.ended:
                        self.idle.append(process)
        raise Flawed(Flaw.CRASHES)

    def _count(self, timeline: Timeline) -> np.ndarray:
        """[chosen] int64, the numbers of the frames."""
        numbers = self.choice.of(timeline)
        with self.lock:
            self.videos += 1
            self.frames += len(numbers)
            self.sparse += self.choice.exceeds(timeline)
        return numbers

    def say(self) -> None:
        """What was found, lest someone misses frames."""
        if not self.videos:
            log.info("none of the files is a video that can be read")
            return
        found = words.count(self.frames, "frame"), words.count(self.videos, "video")
        log.info("%s of %s", *found)
        if self.sparse:
            which = words.count(self.sparse, "video")
            log.info(
                "in %s with fewer than %g frames a second, each frame is read once",
                which,
                self.choice.fps,
            )


def _flawed(
    url: str, version: int | None, flaw: Flaw, milliseconds: int, schema: pa.Schema
) -> pa.Table:
    """The row of what cannot be read of a video."""
    row = {
        "image_uri": url,
        "object_version": version,
        "source_uri": url,
        "source_kind": FLAWED,
        "source_place": [int(flaw), milliseconds],
        "video_uri": url,
    }
    return pa.Table.from_pylist([row], schema)


def _times(timeline: Timeline) -> tuple[np.ndarray, int]:
    """[frames] int64, their times in units of 10^-n seconds, and n."""
    for digits in DIGITS:
        rounded = np.round(timeline.seconds * 10.0**digits).astype(np.int64)
        if (np.diff(rounded) > 0).all():
            break
    return rounded, digits


def _columns(
    url: str,
    version: int | None,
    timeline: Timeline,
    numbers: np.ndarray,
    times: tuple[np.ndarray, int],
) -> list[Any]:
    """Those of `SCHEMA`."""
    rows, (rounded, digits) = len(numbers), times
    parts = (divmod(time, 10**digits) for time in rounded[numbers].tolist())
    size = timeline.height * (-(-3 * timeline.width // 4) * 4) + BMP_BYTES
    place = np.stack([timeline.stamps, timeline.keys, timeline.earlier], 1)[numbers]
    offsets = pa.array(np.arange(0, 3 * rows + 1, 3), pa.int32())
    return [
        [members.uri(url, f"t={whole}.{rest:0{digits}d}") for whole, rest in parts],
        [size] * rows,
        [version] * rows,
        [url] * rows,
        [KIND] * rows,
        pa.ListArray.from_arrays(offsets, pa.array(place.ravel(), pa.int64())),
        [url] * rows,
        timeline.seconds[numbers],
        numbers,
    ]
