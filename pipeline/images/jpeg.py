"""The segments of a JPEG: what the picture needs of them, and which kinds cannot be read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

SOS, APP0, APP1, APP14, APP15, COMMENT = 0xDA, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
# markers that stand alone
BARE = {0x01, *range(0xD0, 0xDA)}
# what begins a frame of which libjpeg can read nothing
UNREADABLE = {
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "a hierarchical JPEG"),
    0xCB: "a lossless JPEG with arithmetic coding",
    0xF7: "a JPEG-LS image",
}
FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, *UNREADABLE}
# what the segments that libjpeg takes colours from must hold at least, behind their length
NEEDED = {APP0: (b"JFIF\0", 14), APP14: (b"Adobe", 12), APP1: (b"Exif\0\0", 6)}


def segments(jpeg: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment; a scan's data are passed over, but for its header."""
    at = 2
    while (at := jpeg.find(b"\xff", at)) >= 0 and at + 4 <= len(jpeg):
        marker = jpeg[at + 1]
        if marker in (0, 0xFF) or marker in BARE:  # junk, or filling
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + max(2, int.from_bytes(jpeg[at + 2 : at + 4], "big"))
        yield marker, at, end
        at = end


def _before_scans(jpeg: bytes) -> Iterator[tuple[int, int, int]]:
    return itertools.takewhile(lambda segment: segment[0] != SOS, segments(jpeg))


def unreadable(jpeg: bytes) -> str | None:
    """What kind of JPEG it is, if it is one that libjpeg does not know."""
    frame = next((marker for marker, _, _ in _before_scans(jpeg) if marker in FRAMES), 0)
    return UNREADABLE.get(frame)


def picture_alone(jpeg: bytes) -> bytes:
    """The file without profiles, previews and notes, where Pillow fails over a damaged one."""
    kept, behind = [jpeg[:2]], 2
    for marker, start, end in _before_scans(jpeg):
        name, size = NEEDED.get(marker, (b"", 0))
        needed = size and end - start - 4 >= size and jpeg.startswith(name, start + 4)
        if needed or not (APP0 <= marker <= APP15 or marker == COMMENT):
            kept.append(jpeg[start:end])
        behind = end
    return b"".join(kept) + jpeg[behind:]
