"""The corpus: several hundred files, sound and hostile, with what must come of each.

Everything is made here, from fixed seeds; nothing is read from disk.
`python -m tests.support.hostile` decodes it and prints the bytes of memory that the process held at
most meanwhile.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.images.decode import DecodeError, decode, read_header
from tests.support import (
    hostile_heif,
    hostile_jpeg,
    hostile_odd,
    hostile_other,
    hostile_png,
    hostile_tiff,
)
from tests.support.hostile_files import (
    ASCII,
    BYTE,
    DOUBLE,
    LONG,
    ORIENTATION,
    SHORT,
    SSHORT,
    Case,
    chunk,
    encoded,
    exif,
    picture,
    tiff,
    upright,
    with_segment,
)
from tests.support.hostile_jpeg import scan_bomb
from tests.support.hostile_tiff import tags

__all__ = ["Case", "corpus", "peak", "scan_bomb"]

MAX_PIXELS = 200_000_000


def with_exif(kind: str, block: bytes, image: np.ndarray) -> bytes:
    """A file of the kind that carries the EXIF block as it stands."""
    if kind == "jpg":
        data = encoded(image, "JPEG", quality=98, subsampling="4:4:4")
        return with_segment(data, 0xE1, b"Exif\0\0" + block)
    if kind == "png":
        data = encoded(image, "PNG")
        return data[:33] + chunk(b"eXIf", block) + data[33:]
    return encoded(image, "WEBP", lossless=True, exif=block or b"\0")


def broken_exif() -> dict[str, bytes]:
    """Blocks that say no valid orientation."""
    sixth = exif(6)
    below = {34665: (LONG, [8]), 34853: (LONG, [8]), 40965: (LONG, [8])}
    outside = {34665: (LONG, [2**31]), 34853: (LONG, [2**32 - 1])}
    long = tiff({271: (ASCII, b"x" * 70)})
    return {
        "zero": exif(0),
        "nine": exif(9),
        "65535": exif(65535),
        "text": tiff({ORIENTATION: (ASCII, b"6\0")}),
        "long-text": tiff({ORIENTATION: (ASCII, b"rotate 90 CW\0")}),
        "negative": tiff({ORIENTATION: (SSHORT, [-6])}),
        "byte": tiff({ORIENTATION: (BYTE, b"\6")}),
        "fraction": tiff({ORIENTATION: (DOUBLE, [6.5])}),
        "unknown-type": sixth.replace(struct.pack("<HH", ORIENTATION, SHORT), b"\x12\1\xff\0"),
        "no-value": tiff({ORIENTATION: (SHORT, [])}),
        "values-outside": sixth.replace(b"\1\0\0\0\6\0", b"\x09\0\0\0\xff\xff"),
        "outside": b"II*\0" + struct.pack("<I", 5000) + sixth[8:],
        "far-outside": b"MM\0*" + struct.pack(">I", 2**32 - 1),
        "cut": sixth[:15],
        "no-entries": tiff({}),
        "loop": tiff({}, following=8),
        "loop-below": tiff(below),  # type: ignore[arg-type]
        "below-outside": tiff(outside),  # type: ignore[arg-type]
        "countless": b"II*\0\x08\0\0\0\xff\xff" + b"\x13\1\3\0\1\0\0\0\6\0\0\0" * 9,
        "4-gigabytes": long.replace(struct.pack("<I", 70), struct.pack("<I", 2**32 - 1)),
        "noise": np.random.default_rng(1).bytes(200),
        "nothing": b"",
    }


def orientations() -> Iterator[Case]:
    """All that EXIF can say of how to hold an image, in all formats that carry it."""
    image = picture()
    sound = {f"{n}": (exif(n, order="<>"[n % 2]), n) for n in range(1, 9)}
    sound["long"] = tiff({ORIENTATION: (LONG, [6])}), 6
    sound["many"] = tiff({ORIENTATION: (SHORT, [6, 3])}), 6
    sound["loop"] = exif(6, following=8), 6
    sound["below"] = tiff({ORIENTATION: (SHORT, [6]), 34665: (LONG, [8])}), 6
    sound["twice"] = b"Exif\0\0" + exif(6), 6
    for kind, tolerance in (("jpg", 8), ("png", 0), ("webp", 0)):
        for name, (block, orientation) in sound.items():
            data = with_exif(kind, block, image)
            yield Case(f"exif-{name}.{kind}", data, upright(image, orientation), tolerance)
        for name, block in broken_exif().items():
            yield Case(
                f"exif-broken-{name}.{kind}", with_exif(kind, block, image), image, tolerance
            )
    kind_tags, strip = tags(40, 60, 3), [image.tobytes()]
    for n in range(1, 9):
        data = tiff(kind_tags | {ORIENTATION: (SHORT, [n])}, strip, "<>"[n % 2])
        yield Case(f"exif-{n}.tif", data, upright(image, n))
        data = encoded(image, "TIFF", compression="tiff_lzw", exif=_exif_of(n))
        yield Case(f"exif-{n}-lzw.tif", data, upright(image, n))
    for name, value in (
        ("zero", (SHORT, [0])),
        ("nine", (SHORT, [9])),
        ("65535", (SHORT, [65535])),
        ("text", (ASCII, b"6\0")),
        ("negative", (SSHORT, [-6])),
        ("byte", (BYTE, b"\6")),
        ("fraction", (DOUBLE, [6.5])),
    ):
        data = tiff(kind_tags | {ORIENTATION: value}, strip)
        yield Case(f"exif-broken-{name}.tif", data, image)
    data = encoded(image, "PNG")
    late = data[:-12] + chunk(b"eXIf", exif(6)) + data[-12:]
    yield Case("exif-late.png", late, upright(image, 6))
    label = b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6' tiff:Orientation=\"6\"/>"
    data = encoded(image, "JPEG", quality=98, subsampling="4:4:4")
    yield Case("xmp-6.jpg", with_segment(data, 0xE1, label), upright(image, 6), 8)


def _exif_of(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block


def sizes() -> Iterator[Case]:
    """One pixel, and lines of them."""
    for kind, options, tolerance in (
        ("jpeg", {"quality": 98, "subsampling": "4:4:4"}, 8),
        ("png", {}, 0),
        ("tiff", {}, 0),
        ("bmp", {}, 0),
        ("gif", {}, 70),
        ("webp", {"lossless": True}, 0),
    ):
        longest = 16_383 if kind == "webp" else 20_000
        for height, width in ((1, 1), (1, longest), (longest, 1), (2, 3)):
            image = picture(height, width)
            data = encoded(image, kind, **options)
            yield Case(f"{width}x{height}.{kind}", data, image, tolerance)


def corpus() -> list[Case]:
    """All cases, each under its own name; about 900, in a few seconds.

    `scan_bomb` is not among them: it takes over a minute.
    """
    return [
        *hostile_jpeg.cases(),
        *hostile_png.cases(),
        *hostile_tiff.cases(),
        *hostile_other.cases(),
        *hostile_heif.cases(),
        *hostile_odd.cases(),
        *orientations(),
        *sizes(),
    ]


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    cases = corpus()
    Path("/proc/self/clear_refs").write_text("5")  # from here on the peak counts
    for case in cases:
        with contextlib.suppress(DecodeError):
            decode(read_header(case.data, MAX_PIXELS))
    print(peak())


if __name__ == "__main__":
    main()
