"""Which frames of a video are wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.inputs.containers.video.timeline import Timeline

# many containers have whole milliseconds
ROUNDING_SECONDS = 0.000501


@dataclass(frozen=True)
class Choice:
    """One of three ways to choose frames.

    Attributes:
        fps: at each multiple of 1/fps seconds from the first frame on, the frame that is shown
            then: the last one whose time is not later, or by no more than containers round it. None
            comes twice. The last frame is taken to be shown for as long as the one before it.
        every_nth: the first one, and each so many frames another.
        keyframes: those that can be decoded alone.
    """

    fps: float | None = None
    every_nth: int | None = None
    keyframes: bool = False

    def of(self, timeline: Timeline) -> np.ndarray:
        """[chosen] int64, ascending numbers of frames."""
        if self.keyframes:
            return np.flatnonzero(timeline.is_key)
        if self.every_nth:
            return np.arange(0, len(timeline.stamps), self.every_nth)
        moments = self._moments(timeline)
        first = np.ceil(np.maximum(moments - self._slack, 0))
        return np.flatnonzero(first < np.append(first[1:], self._count(moments)))

    def exceeds(self, timeline: Timeline) -> bool:
        """Whether it asks for more frames than there are."""
        if not self.fps:
            return False
        wanted = self._count(self._moments(timeline))
        return wanted > len(timeline.stamps) == len(self.of(timeline))

    def _count(self, moments: np.ndarray) -> int:
        """Multiples of 1/fps seconds until the end."""
        last: list[float] = moments[-2:].tolist()
        return max(math.ceil(2 * last[-1] - last[0] - self._slack), 1)

    @property
    def _slack(self) -> float:
        return ROUNDING_SECONDS * (self.fps or 0)

    def _moments(self, timeline: Timeline) -> np.ndarray:
        """[frames] float64, when they are first shown, in multiples of 1/fps seconds."""
        return timeline.seconds * (self.fps or 0)
