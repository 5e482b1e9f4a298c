"""Videos opened by PyAV, the binding of FFmpeg's libraries."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Any

from pipeline.errors import Code, UsageError
from pipeline.inputs.containers.members import MemberError
from pipeline.inputs.containers.video.flaws import Flaw, Flawed

if TYPE_CHECKING:
    from av import Packet, VideoStream
    from av.container import InputContainer

# seekable
Readable = IO[bytes] | io.RawIOBase
MISSING = "videos need PyAV: pip install '.[video]' in the clone"
READ_BYTES = 2**18


def check_installed() -> None:
    """
    Raises:
        UsageError: the extra `video` is not installed here.
    """
    if find_spec("av") is None:
        raise UsageError(MISSING)


@contextmanager
def opened(file: Readable, max_pixels: int) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream, to be demuxed, and decoded on one thread.

    Args:
        file: at its start.
        max_pixels: of a frame; a decoder allocates none that is larger.

    Raises:
        Flawed: it is no video, or has no moving pictures.
        MemberError: PyAV is not installed here.
        OSError: of the file.
    """
    try:
        import av
    except ImportError as error:
        message = (
            f"{MISSING}, or on a cluster in the image or runtime_env of each machine that fetches"
        )
        raise MemberError(Code.MEMBER_UNREADABLE, message) from error
    # a playlist or a script in a video's clothes would name other files: nothing else is opened
    options = {"protocol_whitelist": "none", "max_pixels": str(max_pixels)}
    try:
        container = av.open(file, "r", options=options, buffer_size=READ_BYTES)
    except av.FFmpegError as error:
        raise Flawed(Flaw.NOT_ONE) from error
    with container:
        stream = _moving(container)
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(max_pixels)}
        yield container, stream


def _moving(container: InputContainer) -> VideoStream:
    from av.stream import Disposition

    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    moving = [s for s in container.streams.video if not s.disposition & covers and s.codec_context]
    if not moving:
        raise Flawed(Flaw.NO_PICTURES)
    best = container.streams.best("video")
    return next((stream for stream in moving if stream is best), moving[0])


def is_shown(packet: Packet[Any]) -> bool:
    """Whether a packet of a video holds a frame that is shown.

    An edit list may hide it; VP8 has frames of which only others are made (RFC 6386, section 9.1).
    """
    hidden = packet.stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10
    return packet.size > 0 and not packet.is_discard and not hidden
