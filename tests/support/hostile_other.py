"""GIF, WebP and BMP files, and what is no image at all."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.support.hostile_files import Case, chunk, encoded, gif, lzw, picture, png, rgb, riff

FIRST, SECOND = np.array([10, 20, 30], np.uint8), np.array([200, 100, 50], np.uint8)


def gifs() -> Iterator[Case]:
    """Frames that are smaller, larger or other than the canvas."""
    indices = np.add.outer(np.arange(10), np.arange(12)) % 2
    shown = np.stack([FIRST, SECOND])[indices]
    pixels = lzw(indices.ravel().tolist())
    yield Case("plain.gif", gif(12, 10, pixels), shown)
    small = np.broadcast_to(FIRST, (20, 30, 3)).copy()
    small[5:15, 7:19] = shown
    yield Case("frame-smaller.gif", gif(30, 20, pixels, (7, 5, 12, 10)), small)
    larger = np.broadcast_to(FIRST, (15, 19, 3)).copy()
    larger[5:, 7:] = shown
    yield Case("frame-outside.gif", gif(4, 4, pixels, (7, 5, 12, 10)), larger)
    yield Case("no-canvas.gif", gif(0, 0, pixels, (0, 0, 12, 10)), shown)
    yield Case("no-frame-size.gif", gif(12, 10, pixels, (0, 0, 0, 0)), "corrupt")
    for disposal in range(4):
        control = b"!\xf9\4" + bytes([disposal << 2 | 1]) + b"\0\0\1\0"
        yield Case(f"disposal-{disposal}.gif", gif(12, 10, pixels, before=control), shown)
        huge = gif(12, 10, pixels, (0, 0, 65535, 65535), before=control)
        yield Case(f"frame-of-65535-{disposal}.gif", huge, "too_many_pixels")
    yield Case("canvas-of-65535.gif", gif(65535, 65535, pixels), "too_many_pixels")
    frame = gif(12, 10, pixels)[19:-1]
    yield Case("30000-frames.gif", gif(12, 10, pixels, after=frame * 30_000 + b";"), shown)
    comments = b"!\xfe" + (b"\xff" + b"c" * 255) * 5000 + b"\0"
    yield Case("comments.gif", gif(12, 10, pixels, before=comments), shown)
    yield Case("looped.gif", gif(12, 10, pixels, before=b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0"), shown)
    yield Case("no-frame.gif", gif(12, 10, pixels)[:19] + b";", "corrupt")
    yield Case("few-pixels.gif", gif(12, 10, lzw([0, 1, 0])), "truncated")
    yield Case("no-pixels.gif", gif(12, 10, b"\2\0"), "truncated")
    yield Case("code-size.gif", gif(12, 10, b"\x0d" + pixels[1:]), "corrupt")
    grey = bytes(range(4)) and b"".join(bytes([level] * 3) for level in range(4))
    yield Case("grey.gif", gif(12, 10, pixels, palette=grey), rgb(indices))
    data = gif(12, 10, pixels, before=b"!\xf9\4\1\0\0\0\0")
    for at in (1, 5):
        yield Case(f"cut-{at}.gif", data[:at], "not_an_image")
    for at in (6, 9, 12, 15, 19, 21, 24, 27, 30, 36, 37, 45, len(data) - 12, len(data) - 4):
        yield Case(f"cut-{at}.gif", data[:at], "truncated")
    for missing in (1, 2):
        yield Case(f"cut-end-{missing}.gif", data[:-missing], shown)
    frames = [Image.fromarray(255 - picture())] * 2
    data = encoded(picture(), "GIF", save_all=True, append_images=frames)
    yield Case("animation.gif", data, picture(), tolerance=70)


def webps() -> Iterator[Case]:
    image, second = picture(), Image.fromarray(255 - picture())
    lossless = encoded(image, "WEBP", lossless=True)
    lossy = encoded(image, "WEBP", quality=95)
    clear = np.dstack([image, np.full((40, 60), 128, np.uint8)])
    yield Case("lossless.webp", lossless, image)
    yield Case("lossy.webp", lossy, image, tolerance=12)
    yield Case("alpha.webp", encoded(clear, "WEBP", lossless=True, exact=True), image)
    data = encoded(image, "WEBP", lossless=True, save_all=True, append_images=[second] * 2)
    yield Case("animation.webp", data, image)
    yield Case("animation-cut.webp", data[: len(data) - 30], "truncated")
    described = encoded(image, "WEBP", lossless=True, exif=b"II*\0\x08\0\0\0\0\0", icc_profile=b"x")
    for name, file in (("lossless", lossless), ("lossy", lossy), ("described", described)):
        for at in (3, 8, 11):
            yield Case(f"cut-{name}-{at}.webp", file[:at], "not_an_image")
        for at in (12, 14, 18, 20, 25, 30, 40, len(file) // 2, len(file) - 9, len(file) - 1):
            yield Case(f"cut-{name}-{at}.webp", file[:at], "truncated")
    yield Case("bytes-behind.webp", lossless + b"x" * 99, image)
    kind, body = lossless[12:16], lossless[20:]
    yield Case("unknown-chunk.webp", riff((kind, body), (b"JUNK", b"x" * 99)), image)
    yield Case("no-image.webp", riff((b"JUNK", b"x" * 99)), "corrupt")
    yield Case("damaged.webp", riff((kind, body[:5] + b"\xff" * 80)), "corrupt")
    place = b"\0" * 6 + (59).to_bytes(3, "little") + (39).to_bytes(3, "little") + b"\0" * 4
    frame = (b"ANMF", place + lossless[12:])
    side = (65_534).to_bytes(3, "little") * 2
    data = riff((b"VP8X", b"\2\0\0\0" + side), (b"ANIM", bytes(6)), frame)
    yield Case("canvas-of-65535.webp", data, "too_many_pixels")
    side = (999).to_bytes(3, "little") * 2
    data = riff((b"VP8X", b"\2\0\0\0" + side), (b"ANIM", bytes(6)), *[frame] * 3000)
    canvas = np.zeros((1000, 1000, 3), np.uint8)
    canvas[:40, :60] = image
    yield Case("3000-frames.webp", data, canvas)


def bitmap(
    width: int, height: int, bits: int, pixels: bytes, compression: int = 0, palette: bytes = b""
) -> bytes:
    """A BMP with the usual header of 40 bytes."""
    offset = 54 + len(palette)
    head = struct.pack(
        "<IiiHHIIiiII",
        40,
        width,
        height,
        1,
        bits,
        compression,
        len(pixels),
        0,
        0,
        len(palette) // 4,
        0,
    )
    file = b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset)
    return file + head + palette + pixels


def bitmaps() -> Iterator[Case]:
    image = picture()
    table = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    colors = np.pad(table[:, ::-1], ((0, 0), (0, 1))).astype(np.uint8)
    indices = np.add.outer(np.arange(10), np.arange(16))
    below = image[::-1, :, ::-1].tobytes()
    yield Case("color.bmp", bitmap(60, 40, 24, below), image)
    yield Case("top-down.bmp", bitmap(60, -40, 24, image[:, :, ::-1].tobytes()), image)
    wide = np.dstack([image[::-1, :, ::-1], np.zeros((40, 60), np.uint8)]).tobytes()
    yield Case("color32.bmp", bitmap(60, 40, 32, wide), image)
    for bits in (1, 4, 8):
        some = indices % 2**bits
        single = np.unpackbits(some[::-1].astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - bits :]
        packed = np.packbits(single.reshape(10, -1), axis=1)
        packed = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 4)))
        data = bitmap(16, 10, bits, packed.tobytes(), palette=colors[: 2**bits].tobytes())
        yield Case(f"palette{bits}.bmp", data, table[some])
    runs = b"".join(bytes([16, row]) + b"\0\0" for row in range(10)) + b"\0\1"
    shown = np.repeat(table[9::-1][:, None], 16, axis=1)
    data = bitmap(16, 10, 8, runs, 1, colors.tobytes())
    yield Case("runs.bmp", data, shown)
    yield Case("runs-cut.bmp", data[:-20], "truncated")
    yield Case(
        "runs-end-early.bmp",
        bitmap(16, 10, 8, runs[:20] + b"\0\1", 1, colors.tobytes()),
        "truncated",
    )
    yield Case("huge.bmp", bitmap(2**31 - 1, 2**30, 24, below), "too_many_pixels")
    yield Case("zero.bmp", bitmap(0, 40, 24, below), "corrupt")
    yield Case("negative.bmp", bitmap(-60, 40, 24, below), "too_many_pixels")
    for bits, compression in ((24, 4), (24, 5), (7, 0), (64, 0), (24, 99)):
        data = bitmap(60, 40, bits, below, compression)
        yield Case(f"unknown-{bits}-{compression}.bmp", data, "unsupported_mode")
    data = bitmap(60, 40, 24, below)
    for at in (1, 13, 17):
        yield Case(f"cut-{at}.bmp", data[:at], "not_an_image")
    for at in (18, 30, 53, 54, 60, len(data) // 2, len(data) - 1):
        yield Case(f"cut-{at}.bmp", data[:at], "truncated")
    short = bitmap(16, 10, 8, b"", palette=colors.tobytes())
    yield Case("cut-in-palette.bmp", short[:100], "truncated")


def no_images() -> Iterator[Case]:
    """Other things under an image's name; and images that are something else, too."""
    image = picture()
    files = {kind: encoded(image, kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF")}
    files["WEBP"] = encoded(image, "WEBP", lossless=True)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr(zipfile.ZipInfo("a.txt"), "text")
    page = b"<!DOCTYPE html><html><body>404 <script>alert(1)</script></body></html>"
    others = {
        "empty": b"",
        "one": b"\xff",
        "zero": b"\0",
        "zeros": bytes(5000),
        "space": b" " * 99,
        "html": page,
        "json": b'{"error": "AccessDenied"}',
        "xml": b"<?xml version='1.0'?><Error/>",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        "text": "BM, GIF89 und Ähnliches".encode(),
        "bom": b"\xef\xbb\xbfRIFF",
        "pdf": b"%PDF-1.7",
        "mp4": b"\0\0\0\x18ftypmp42\0\0\0\0isom",
        "jxl": b"\xff\x0a\xfa\x1f\x01",
        "jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
        "ico": b"\0\0\1\0\1\0",
        "psd": b"8BPS\0\1",
        "ppm": b"P6 1 1 255\n\1\2\3",
        "wave": b"RIFF\x24\0\0\0WAVEfmt ",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "zip": archive.getvalue(),
        "gzip": gzip.compress(files["JPEG"], mtime=0),
        "elf": b"\x7fELF" + bytes(60),
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "pickle": b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x02os\x94.",
        "utf16": page.decode().encode("utf-16"),
    }
    for name, data in others.items():
        yield Case(f"{name}.jpg", data, "not_an_image" if data else "empty")
    tolerances = {"JPEG": 20, "GIF": 70}
    for kind, data in files.items():
        tolerance = tolerances.get(kind, 0)
        yield Case(f"other-name-{kind}.txt.jpg", data, image, tolerance)
        for name, other in (("zip", archive.getvalue()), ("html", page), ("jpeg", files["JPEG"])):
            yield Case(f"{name}-behind-{kind}.jpg", data + other, image, tolerance)
        for name, other in (("zip", archive.getvalue()), ("html", page), ("pdf", b"%PDF-1.7\n")):
            yield Case(f"{name}-before-{kind}.jpg", other + data, "not_an_image")
    script = chunk(b"tEXt", b"a\0" + page)
    yield Case("html-in.png", png(2, 1, 8, 0, b"\0\1\2", before=script), rgb(np.array([[1, 2]])))


def cases() -> Iterator[Case]:
    yield from gifs()
    yield from webps()
    yield from bitmaps()
    yield from no_images()
