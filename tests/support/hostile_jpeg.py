"""JPEG files: all processes, all colours, cut everywhere, and a bomb of scans."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.support.hostile_files import Case, encoded, picture, rgb, segment, segments, with_segment

# x * 12 + y * 3 in 16x16, as cjpeg -arithmetic writes it; sequential and progressive
ARITHMETIC = (
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00RO70|EjA0|NsD0|NvF2n7WM1O*BQ2L=cX3JeSj3JVJj4iXRz4iOFu3lJ6%5f"
    "c;@6%`B*7Z?^47!ni}6#vNp3kU!Z01yEI5di<p00saM5C#9*00;pA002J#{{ZLVj&^mk60~$g(Dq=t?j!bK1|4ALs5i|"
    "2*#",
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00RO70|EjA0|NsD0|NvF2n7WM1O*BQ2L=cX3JeSj3JVJj4iXRz4iOFu3lJ6%5f"
    "c;@6%`B*7Z?^47!ni}6#vQq3kU!Z01yEI5di<p00aOK|Jncu0RaF200I91&)?<YF#pT|1P}%P+5iXv0RRC70v2Ir%hrA"
    "3l<fb^00a;P|Jncu0RaF8KLQ-e@c+yJ1P}%P+5iXv0RRC%As<ydfdAS62mt{A000p9|I7dc5C#9*00;pA00BP`((=32;"
    "Q!e",
)
# the same without loss, by libjpeg-turbo 3
LOSSLESS = (
    "|JeWF01!$>Nk#wx0RR9200961|HA+a2mlZO5CH)Z0RO}Q761VO0RR910000000000000C62>;pu2mt{A0RRBc>|+?lF^"
    "ppv#xmH(F^ppv#xaa#v5aFF#xaaz7|UZA#xaaz7{)P{#xaaz7{)P-V=ath7{)P-V;II;7{)P-V;IIUjJ7e1V;IIUjAI#"
    "WV;IIUjAIzaGT6p3jAIzaF^pxgjAIzaF^ppv%VQYEF^ppv#xa)0F^ppv#xaazEsSFr#xaaz7{*%|#xaaz7{)P-wlR!j7"
    "{)P-V;TS1"
)


def flat(
    levels: np.ndarray,
    frame: int = 0xC0,
    precision: int = 8,
    adobe: int | None = None,
    height: int | None = None,
) -> bytes:
    """A JPEG whose 8x8 blocks have one level each, by their DC coefficients alone.

    Args:
        levels: [rows, columns, components], 0 to 255, of the components as they are stored.
        frame: the marker of the process.
        precision: bits a sample.
        adobe: the transform in Adobe's segment.
        height: in pixels, if the file is to say another one.
    """
    rows, columns, components = levels.shape
    size = struct.pack(
        ">BHHB", precision, rows * 8 if height is None else height, columns * 8, components
    )
    numbers = range(1, components + 1)
    data = [b"\xff\xd8"]
    if adobe is not None:
        data.append(segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([adobe])))
    data.append(segment(0xDB, b"\0" + b"\x08" * 64))  # 8: a coefficient of 1 is one level
    data.append(segment(frame, size + b"".join(bytes([n, 0x11, 0]) for n in numbers)))
    data.append(segment(0xC4, bytes([0, 0, 0, 0, 12, *[0] * 12, *range(12)])))  # category: 4 bits
    data.append(segment(0xC4, bytes([0x10, 1, *[0] * 15, 0])))  # end of block: one 0
    spectral = b"\0\0\0" if frame in (0xC2, 0xC6) else b"\0\x3f\0"
    table = b"".join(bytes([n, 0]) for n in numbers)
    data.append(segment(0xDA, bytes([components]) + table + spectral))
    end = "" if frame in (0xC2, 0xC6) else "0"
    differences = np.diff(levels.reshape(-1, components).astype(int) - 128, axis=0, prepend=0)
    bits = "".join(_number(value) + end for value in differences.ravel().tolist())
    data.append(_stuffed(bits))
    if not end:  # libjpeg smooths blocks of which it never saw the rest
        for n in numbers:
            data.append(
                segment(0xDA, bytes([1, n, 0, 1, 0x3F, 0])) + _stuffed("0" * rows * columns)
            )
    return b"".join(data) + b"\xff\xd9"


def _number(value: int) -> str:
    size = abs(value).bit_length()
    low = value if value > 0 else value + 2**size - 1
    return f"{size:04b}" + (f"{low:0{size}b}" if size else "")


def _stuffed(bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


def blocks(levels: np.ndarray) -> np.ndarray:
    """The pixels of `flat`, before any conversion of colour."""
    return levels.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)


def scan_bomb(side: int = 8000, scans: int = 15_000) -> bytes:
    """A progressive JPEG of empty scans, each of which goes over the whole image.

    Over a minute of decoding on one core, in 2 MB.
    """
    head = flat(np.full((1, 1, 1), 128), frame=0xC2)
    at = segments(head)
    frame = head.index(b"\xff\xc2")
    head = head[: frame + 5] + struct.pack(">HH", side, side) + head[frame + 9 : at[-2]]
    # end-of-band runs of 16,384 and one more blocks: 4 bits, then how many above the power of 2
    head += segment(0xC4, bytes([0x10, 0, 0, 0, 1, *[0] * 12, 0xE0]))
    total = (side // 8) ** 2
    runs = "0000" + "1" * 14
    scan = _stuffed(runs * (-(-total // 32767)))
    first = segment(0xDA, b"\1\1\0\0\0\0") + _stuffed("0000" * total)
    one = segment(0xDA, b"\1\1\0\1\x3f\0") + scan
    return head + first + one * scans + b"\xff\xd9"


def processes() -> Iterator[Case]:
    """Kinds of compression."""
    levels = np.arange(24, dtype=np.uint8).reshape(4, 6, 1) * 10
    grey = rgb(blocks(levels)[:, :, 0])
    yield Case("flat.jpg", flat(levels), grey)
    yield Case("extended.jpg", flat(levels, 0xC1), grey)
    yield Case("progressive-flat.jpg", flat(levels, 0xC2), grey)
    for frame in (0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF):
        yield Case(f"frame-{frame:x}.jpg", flat(levels, frame), "unsupported_mode")
    hierarchy = segment(0xDE, struct.pack(">BHHBBBB", 8, 32, 48, 1, 1, 0x11, 0))
    data = flat(levels)
    yield Case("hierarchical.jpg", data[:2] + hierarchy + data[2:], "unsupported_mode")
    yield Case("12-bit.jpg", flat(levels, 0xC1, precision=12), "unsupported_mode")
    yield Case("16-bit-lossless.jpg", flat(levels, 0xC3, precision=16), "unsupported_mode")
    yield Case("two-components.jpg", flat(np.dstack([levels] * 2)), "unsupported_mode")
    x, y = np.arange(16), np.arange(16)[:, None]
    for number, text in enumerate(ARITHMETIC):
        data = base64.b85decode(text)
        yield Case(f"arithmetic-{number}.jpg", data, rgb(x * 12 + y * 3), tolerance=4)
        yield Case(f"arithmetic-{number}-cut.jpg", data[:-30], "truncated")
    data = base64.b85decode(LOSSLESS)
    yield Case("lossless.jpg", data, rgb(x * 12 + y * 3))
    yield Case("lossless-cut.jpg", data[:-30], "truncated")
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        for progressive in (False, True):
            data = encoded(
                picture(), "JPEG", quality=98, subsampling=subsampling, progressive=progressive
            )
            name = f"{subsampling.replace(':', '')}-{progressive}.jpg"
            yield Case(name, data, picture(), tolerance=8)
    data = encoded(picture(), "JPEG", quality=98, restart_marker_blocks=1)
    yield Case("restarts.jpg", data, picture(), tolerance=8)


def colors() -> Iterator[Case]:
    """Components and what Adobe's segment says of them."""
    some = np.random.default_rng(5).integers(0, 256, (3, 5, 4), np.uint8)
    stored = blocks(some)
    yield Case("adobe-rgb.jpg", flat(some[:, :, :3], adobe=0), stored[:, :, :3])
    # Adobe stores CMYK inverted: 255 is no ink
    ink = np.round(stored[:, :, :3] * (stored[:, :, 3:] / 255)).astype(np.uint8)
    yield Case("adobe-cmyk.jpg", flat(some, adobe=0), ink, tolerance=1)
    neutral = np.full((3, 5, 4), 128)
    neutral[:, :, 0], neutral[:, :, 3] = some[:, :, 0], 255
    yield Case("adobe-ycck.jpg", flat(neutral, adobe=2), rgb(255 - stored[:, :, 0]), tolerance=1)
    neutral[:, :, 3] = 0
    yield Case("adobe-ycck-black.jpg", flat(neutral, adobe=2), np.zeros((24, 40, 3), np.uint8))
    neutral = neutral[:, :, :3]
    yield Case("ycc.jpg", flat(neutral, adobe=1), rgb(stored[:, :, 0]), tolerance=1)


def cuts() -> Iterator[Case]:
    """Cut inside each segment, each scan, before and inside the last marker."""
    for name, options in (("base", {}), ("prog", {"progressive": True})):
        data = encoded(picture(), "JPEG", comment=b"a comment", exif=b"Exif\0\0II*\0", **options)
        for at in range(3):
            yield Case(f"{name}-cut-{at}.jpg", data[:at], "not_an_image" if at else "empty")
        starts = segments(data)
        for start in starts[:-1]:
            for length in (start + 1, start + 3, start + 7):
                yield Case(f"{name}-cut-{length}.jpg", data[:length], "truncated")
        for part in range(8):
            length = starts[-1] + (len(data) - starts[-1]) * part // 8
            yield Case(f"{name}-cut-{length}.jpg", data[:length], "truncated")
        whole = np.asarray(Image.open(io.BytesIO(data)))
        for missing in (1, 2):  # of the last marker, which no pixel needs
            yield Case(f"{name}-end-{missing}.jpg", data[:-missing], whole)
        yield Case(f"{name}-end-3.jpg", data[:-3], "truncated")


def oddities() -> Iterator[Case]:
    """Damage, and what looks like damage."""
    levels = np.arange(24, dtype=np.uint8).reshape(4, 6, 1) * 10
    data, grey = flat(levels), rgb(blocks(levels)[:, :, 0])
    frame, tables, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xc4"), segments(data)[-2]
    yield Case("no-frame.jpg", data[:frame] + data[tables:], "corrupt")
    yield Case("no-scan.jpg", data[:scan] + b"\xff\xd9", "truncated")
    standard = encoded(picture(), "JPEG", quality=98, subsampling="4:4:4")
    starts = [at for at in segments(standard)[:-1] if standard[at + 1] == 0xC4]
    bare = standard[: starts[0]] + standard[segments(standard)[-2] :]
    yield Case("standard-tables-left-out.jpg", bare, picture(), tolerance=8)
    yield Case("no-quantization.jpg", data[:2] + data[frame:], "corrupt")
    yield Case("two-frames.jpg", data[:frame] + data[frame:tables] * 2 + data[tables:], "corrupt")
    yield Case("no-height.jpg", flat(levels, height=0), "corrupt")
    huge = data[: frame + 5] + b"\xff\xff\xff\xff" + data[frame + 9 :]
    yield Case("65535x65535.jpg", huge, "too_many_pixels")
    short = data[: frame + 2] + b"\0\1" + data[frame + 4 :]
    yield Case("segment-too-short.jpg", short, "corrupt")
    yield Case("adobe-cut.jpg", with_segment(data, 0xEE, b"Adobe\0"), grey)
    yield Case("bytes-behind.jpg", data + b"\0" * 5000, grey)
    yield Case("image-behind.jpg", data + flat(255 - levels), grey)
    yield Case("filled.jpg", data[:2] + b"\xff" * 9 + data[2:], grey)
    for name, marker, body in (
        ("icc-part-missing", 0xE2, b"ICC_PROFILE\0\1\2" + b"x" * 50),
        ("photoshop-cut", 0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0\xff\xff\xff\xff"),
        ("jfif-cut", 0xE0, b"JFIF\0\1\1"),
        ("mpo-junk", 0xE2, b"MPF\0" + b"II*\0" + b"\xff" * 60),
        ("mpo-empty", 0xE2, b"MPF\0"),
        (
            "mpo-two",
            0xE2,
            b"MPF\0MM\0*\0\0\0\x08\0\2\xb0\1\0\4\0\0\0\1\0\0\0\2"
            b"\xb0\2\0\7\0\0\0\x20\0\0\0\x26\0\0\0\0" + b"\0" * 32,
        ),
        ("xmp-junk", 0xE1, b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='no'"),
    ):
        yield Case(f"{name}.jpg", with_segment(data, marker, body), grey)
    many = with_segment(data, 0xE1, b"Exif\0\0" + b"\0" * 60_000)
    for _ in range(9):
        many = with_segment(many, 0xE1, b"Exif\0\0" + b"\0" * 60_000)
    yield Case("exif-in-parts.jpg", many, grey)


def cases() -> Iterator[Case]:
    yield from processes()
    yield from colors()
    yield from cuts()
    yield from oddities()
