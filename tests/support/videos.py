"""Small videos of numbered frames, written by PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT, BITS = 64, 48, 8
# closed groups of 12 frames with two B-frames between references, whatever the picture is
H264 = {"x264-params": "keyint=12:min-keyint=12:scenecut=0:bframes=2:b-adapt=0"}


def picture(number: int) -> np.ndarray:
    """[48, 64, 3] RGB uint8: stripes, white where a bit of the number is set, the lowest first."""
    bits = number >> np.arange(BITS) & 1
    row = np.repeat(np.where(bits, 220, 30), WIDTH // BITS)
    pixels = np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3))
    return np.ascontiguousarray(pixels, np.uint8)


def number(pixels: np.ndarray) -> int:
    """Of a picture, upright."""
    middles = pixels[HEIGHT // 2, WIDTH // BITS // 2 :: WIDTH // BITS, 1]
    return int(np.sum((middles > 125) << np.arange(BITS)))


def write(
    path: Path | str,
    frames: Iterable[int] = range(40),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    rate: int = 25,
    stamps: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: float | None = None,
    pixels: str = "yuv420p",
    container: dict[str, str] | None = None,
) -> str:
    """A video of the numbered frames; returns its path.

    Args:
        path: whose ending says the container.
        frames: their numbers.
        codec, options: of the encoder; H.264 with B-frames by default.
        rate: frames a second.
        stamps: of each frame in units of `time_base`, where they are not spaced evenly.
        time_base: seconds; by default 1 / rate.
        rotation: of the display matrix, in degrees.
        pixels: format in which they are encoded.
        container: options of the muxer.
    """
    chosen: Any = (H264 if codec == "libx264" else {}) if options is None else options
    with av.open(str(path), "w", options=container or {}) as file:
        stream: Any = file.add_stream(codec, rate=rate, options=chosen)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        if time_base:
            stream.codec_context.time_base = time_base
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for place, shown in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture(shown), "rgb24").reformat(format=pixels)
            frame.pts = stamps[place] if stamps else place
            frame.time_base = time_base or Fraction(1, rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return str(path)


def write_sound(path: Path) -> str:
    """A second of silence, and no picture."""
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("aac", rate=16000)
        silence = np.zeros((1, 16000), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.rate, frame.pts = 16000, 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return str(path)
