"""Videos among the files of a listing, and the rows of their frames."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from itertools import chain, repeat

import numpy as np
import pyarrow as pa

from pipeline import words
from pipeline.config import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS, Config
from pipeline.errors import UsageError
from pipeline.inputs import readers
from pipeline.inputs.containers import members
from pipeline.inputs.containers.video.choice import Choice
from pipeline.inputs.containers.video.flaws import Flaw
from pipeline.inputs.containers.video.opening import Readable, check_installed
from pipeline.inputs.containers.video.timeline import Timeline, read_timeline
from pipeline.outputs.manifest import FRAME, LISTED, MEMBER

log = logging.getLogger(__name__)
# `source_kind` of a frame, whose `source_place` is a `frames.Place`, and of a video that cannot be
# listed to its end: a `Flaw` and the milliseconds until there
KIND, FLAWED = "video", "video_flaw"
SCHEMA = pa.schema([*LISTED, *MEMBER, *FRAME])
# of the text of a time; of one video all have as many as tell its frames apart
DIGITS = (3, 6, 10)
# what a BMP has before its pixels
BMP_BYTES = 54


def chosen(config: Config) -> Choice | None:
    """Which frames of videos are to be listed; None for no videos.

    Raises:
        UsageError: this machine cannot read videos.
    """
    if config.fps is None and config.every_nth is None and not config.keyframes:
        return None
    check_installed()
    return Choice(config.fps, config.every_nth, config.keyframes)


def endings(config: Config, named: set[str]) -> set[str]:
    """The endings of files that are videos to a run that has chosen frames.

    Args:
        config: the run's.
        named: the endings that its input has.

    Raises:
        UsageError: none is; or no frames are chosen, and some are.
    """
    given = set(config.extensions) & set(VIDEO_EXTENSIONS)
    asked = named & set(VIDEO_EXTENSIONS) | given
    if chosen(config) is None:
        if asked:
            raise UsageError(
                f".{min(asked)} files are videos: say which frames of them by fps, for instance 1, "
                f"every_nth or keyframes"
            )
        return set()
    if config.extensions == IMAGE_EXTENSIONS:
        return set(VIDEO_EXTENSIONS)
    if not asked:
        raise UsageError("fps, every_nth and keyframes are of videos; extensions names none")
    return asked


class VideoListing:
    """The frames of videos as rows of a manifest. Thread-safe."""

    def __init__(self, choice: Choice, max_pixels: int) -> None:
        self.choice, self.max_pixels = choice, max_pixels
        self.lock = threading.Lock()
        self.videos = self.frames = self.sparse = 0

    def read(self, file: Readable, url: str, version: int | None, first: int) -> Iterator[pa.Table]:
        """The frames that are chosen, then a row for what of the video cannot be read.

        Args:
            file: the video, at its start.
            url: of the video.
            version: of the video, and so of each frame.
            first: rows of the first table.

        Raises:
            Flawed: there is nothing to list.
            OSError: of the file.
        """
        timeline = read_timeline(file, self.max_pixels)
        numbers = self.choice.of(timeline)
        with self.lock:
            self.videos += 1
            self.frames += len(numbers)
            self.sparse += self.choice.exceeds(timeline)
        texts = _times(timeline)
        start = 0
        for rows in chain([first], repeat(readers.BATCH_ROWS)):
            if not len(some := numbers[start : start + rows]):
                break
            yield _table(url, version, timeline, some, texts)
            start += rows
        if timeline.flaw is not None:
            yield flawed(url, version, timeline.flaw, timeline.end)

    def say(self) -> None:
        """What was found, lest someone misses frames."""
        if not self.videos:
            log.info("no video is among the files")
            return
        found = words.count(self.frames, "frame"), words.count(self.videos, "video")
        log.info("%s of %s", *found)
        if self.sparse:
            which = words.count(self.sparse, "video")
            log.info(
                "all frames of %s, with fewer than %g a second, once each", which, self.choice.fps
            )


def flawed(url: str, version: int | None, flaw: Flaw, milliseconds: int = 0) -> pa.Table:
    """The row of what cannot be read of a video."""
    row = {
        "image_uri": url,
        "object_version": version,
        "source_uri": url,
        "source_kind": FLAWED,
        "source_place": [int(flaw), milliseconds],
        "video_uri": url,
    }
    return pa.Table.from_pylist([row], SCHEMA)


def _times(timeline: Timeline) -> tuple[np.ndarray, int]:
    """[frames] int64, their times in units of 10^-n seconds, and n."""
    for digits in DIGITS:
        rounded = np.round(timeline.seconds * 10.0**digits).astype(np.int64)
        if (np.diff(rounded) > 0).all():
            break
    return rounded, digits


def _table(
    url: str,
    version: int | None,
    timeline: Timeline,
    numbers: np.ndarray,
    times: tuple[np.ndarray, int],
) -> pa.Table:
    rows, (rounded, digits) = len(numbers), times
    parts = (divmod(time, 10**digits) for time in rounded[numbers].tolist())
    size = timeline.height * (-(-3 * timeline.width // 4) * 4) + BMP_BYTES
    place = np.stack([timeline.stamps, timeline.keys, timeline.earlier], 1)[numbers]
    offsets = pa.array(np.arange(0, 3 * rows + 1, 3), pa.int32())
    columns = [
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
    return pa.table(columns, schema=SCHEMA)
