"""Videos over which libav dies, as no file at hand makes it do: each ends in a word for it."""

from __future__ import annotations

import os
import time
from typing import Any

from pipeline.inputs.containers.video import frames, serving, timeline
from pipeline.inputs.containers.video.opening import Readable

# `process.SERVING` with which it happens
SERVING = "from tests.support.hostile_videos import main; main()"
# of the listing, and of each frame from the second group of pictures on
ABORTS, HANGS, ABORTS_LATER, HANGS_LATER = b"listing aborts", b"listing hangs", b"aborts", b"hangs"


def _meet(file: Readable, word: bytes, fate: Any) -> None:
    file.seek(0)
    if file.read().endswith(word):
        fate()
    file.seek(0)


def hang() -> None:
    time.sleep(10_000)


def read_timeline(file: Readable, max_pixels: int) -> timeline.Timeline:
    _meet(file, ABORTS, os.abort)
    _meet(file, HANGS, hang)
    return timeline.read_timeline(file, max_pixels)


class Frames(frames.Frames):
    """Those of such a video."""

    def __init__(self, file: Readable, *limits: Any) -> None:
        super().__init__(file, *limits)
        self.file = file

    def image(self, place: frames.Place) -> Any:
        if place.key != place.earlier:
            _meet(self.file, b"\n" + ABORTS_LATER, os.abort)
            _meet(self.file, b"\n" + HANGS_LATER, hang)
        return super().image(place)


def main() -> None:
    parts: Any = serving
    parts.read_timeline, parts.Frames = read_timeline, Frames
    serving.main()
