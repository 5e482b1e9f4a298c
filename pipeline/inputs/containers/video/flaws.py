"""Why a video, or the rest of it, cannot be read."""

from __future__ import annotations

from enum import IntEnum

from pipeline.errors import Code


class Flaw(IntEnum):
    """What a listing finds wrong with a video. Manifests have the numbers, so they stay."""

    NOT_ONE = 0
    NO_PICTURES = 1
    NO_FRAMES = 2
    NO_KEYFRAME = 3
    UNTIMED = 4
    JUMPING = 5
    TOO_LONG = 6
    CUT = 7
    DAMAGED = 8
    CRASHES = 9
    HANGS = 10
    UNRANGED = 11


# of one video: 38 hours of 60 frames a second, and some 300 MB in memory
FRAMES = 2**23
REASONS = {
    Flaw.NOT_ONE: (Code.CONTAINER_DAMAGED, "not a video of a known format, or cut off"),
    Flaw.NO_PICTURES: (Code.MEMBER_UNREADABLE, "the file has no video stream"),
    Flaw.NO_FRAMES: (Code.CONTAINER_DAMAGED, "the video has no frames"),
    Flaw.NO_KEYFRAME: (Code.CONTAINER_DAMAGED, "the video has no keyframe to decode it from"),
    Flaw.UNTIMED: (
        Code.MEMBER_UNREADABLE,
        "the video does not say when its frames are shown; convert it to one that does: ffmpeg "
        "-i VIDEO NEW.mp4",
    ),
    Flaw.JUMPING: (
        Code.MEMBER_UNREADABLE,
        "the video's time stamps jump back, as where several videos were joined; rewrite it: "
        "ffmpeg -i VIDEO -c copy NEW.mp4",
    ),
    Flaw.TOO_LONG: (Code.MEMBER_UNREADABLE, f"the video has more than {FRAMES:,} frames"),
    Flaw.CUT: (Code.CONTAINER_DAMAGED, "the video is cut off after {:.2f} s"),
    Flaw.DAMAGED: (Code.CONTAINER_DAMAGED, "the video is damaged after {:.2f} s, where it ends"),
    Flaw.CRASHES: (Code.CONTAINER_DAMAGED, "the video reader crashed on it"),
    Flaw.HANGS: (Code.CONTAINER_DAMAGED, "the video reader did not finish with it"),
    Flaw.UNRANGED: (
        Code.OBJECT_TOO_LARGE,
        "its web server does not support ranges, and the whole file is over max_object_bytes",
    ),
}


class Flawed(Exception):
    """A video that cannot be listed."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw)
        self.flaw = flaw


def reason(flaw: int, milliseconds: int) -> tuple[Code, str]:
    """The code and the message of a flaw, and where it was found."""
    code, message = REASONS[Flaw(flaw)]
    return code, message.format(milliseconds / 1000)
