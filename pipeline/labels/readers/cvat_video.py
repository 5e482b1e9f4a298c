"""CVAT for video 1.1: tracks of boxes in numbered frames."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import UsageError
from pipeline.labels.readers.collected import Collected, LabelledBox, corners_of, rotated
from pipeline.store import urls

ELSEWHERE = "in frames that the run does not have"
FRAME = re.compile(r"frame_(\d+)\Z")


class _Box(NamedTuple):
    frame: int
    outside: bool
    keyframe: bool
    corners: np.ndarray


class Tracks:
    """The tracks of a task, as boxes of the frames that the export has."""

    def __init__(self, url: str, found: Collected) -> None:
        self.url, self.found = url, found
        numbered = ((FRAME.search(name), name) for name in found.origins.names)
        self.names = {int(number[1]): name for number, name in numbered if number}
        self.frames = sorted(self.names)
        self.boxes: dict[int, list[LabelledBox]] = defaultdict(list)
        self.reviewed = self.frames
        self.is_video = False

    def meta(self, element: ElementTree.Element) -> None:
        """Which frames the task or job has; CVAT counts those of both from the video's first."""
        task, job = element.find("task"), element.find("job")
        part = task if task is not None else job
        if part is None or part.findtext("mode") != "interpolation":
            return
        self.is_video = True
        step = int((part.findtext("frame_filter") or "").rpartition("=")[2] or 1)
        start, stop = (int(part.findtext(f"{end}_frame") or 0) for end in ("start", "stop"))
        self.reviewed = [n for n in self.frames if start <= n <= stop and (n - start) % step == 0]

    def add(self, track: ElementTree.Element) -> None:
        """
        Raises:
            UsageError: it is one of several tasks, or has a rotated box.
        """
        self.is_video = True
        if track.get("task_id"):
            raise UsageError(
                f"{urls.public(self.url)} is the export of a whole project; export each task by "
                "itself"
            )
        boxes = sorted((_box(box) for box in track.iter("box")), key=lambda box: box.frame)
        label = track.get("label", "")
        for box in boxes:
            if box.frame in self.names:
                if not box.outside:
                    self._put(label, box.frame, box.corners)
            elif box.keyframe and not box.outside:
                self.found.left_out[ELSEWHERE] += 1
        for box, following in pairwise(boxes):
            if not box.outside:
                self._between(label, box, following)

    def _between(self, label: str, box: _Box, following: _Box) -> None:
        """CVAT takes a box to move evenly from one keyframe to the next."""
        first = bisect_left(self.frames, box.frame + 1)
        for frame in self.frames[first : bisect_left(self.frames, following.frame)]:
            share = (frame - box.frame) / (following.frame - box.frame)
            self._put(label, frame, box.corners + share * (following.corners - box.corners))

    def _put(self, label: str, frame: int, corners: np.ndarray) -> None:
        left, top, right, bottom = corners.tolist()
        self.boxes[frame].append((label, left, top, right, bottom))

    def finish(self) -> None:
        """
        Raises:
            UsageError: it is not known of which images the frames are.
        """
        if not self.names:
            raise UsageError(
                f"{urls.public(self.url)} is CVAT for video, which knows frames only by number: "
                "put the images.csv of the export beside it, or export the job as CVAT for "
                "images 1.1"
            )
        for frame in self.reviewed:
            name = self.names[frame]
            self.found.add(name, self.boxes.pop(frame, []), self.found.origins.find(name))
        if rest := sum(map(len, self.boxes.values())):
            self.found.left_out[ELSEWHERE] += rest


def _box(box: ElementTree.Element) -> _Box:
    frame = int(box.attrib["frame"])
    if float(box.get("rotation", 0)) % 360:
        raise rotated(f"frame_{frame:06d}")
    texts = map(box.get, ("xtl", "ytl", "xbr", "ybr"))
    corners = np.array(corners_of(f"frame_{frame:06d}", texts))
    return _Box(frame, box.get("outside") == "1", box.get("keyframe") != "0", corners)
