"""Made-up JPEGs in the sizes of COCO's photographs."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageDraw

# (width, height) to share. Written from memory of COCO's usual sizes, not counted in its
# annotation files.
SIZES = {
    (640, 480): 0.210,
    (640, 427): 0.140,
    (480, 640): 0.075,
    (640, 426): 0.055,
    (427, 640): 0.042,
    (640, 428): 0.035,
    (500, 375): 0.034,
    (640, 425): 0.030,
    (640, 360): 0.028,
    (640, 640): 0.024,
    (640, 424): 0.022,
    (500, 333): 0.021,
    (426, 640): 0.020,
    (612, 612): 0.019,
    (375, 500): 0.018,
    (640, 429): 0.018,
    (640, 512): 0.016,
    (333, 500): 0.014,
    (428, 640): 0.014,
    (640, 478): 0.013,
    (640, 423): 0.013,
    (640, 430): 0.012,
    (425, 640): 0.012,
    (500, 334): 0.011,
    (640, 400): 0.011,
    (500, 500): 0.011,
    (360, 640): 0.010,
    (640, 383): 0.010,
    (640, 457): 0.010,
    (512, 640): 0.009,
    (424, 640): 0.009,
    (640, 320): 0.008,
    (500, 400): 0.008,
    (640, 396): 0.007,
    (640, 536): 0.006,
    (334, 500): 0.005,
}
QUALITY = 90
THREADS = 8


def sizes(number: int, seed: int = 0) -> list[tuple[int, int]]:
    """(width, height) of so many images, in their shares as near as can be, in random order."""
    shares = np.cumsum(list(SIZES.values()))
    # evenly spread over the shares, for a sample of a few images could be of any mix
    places = np.searchsorted(shares / shares[-1], (np.arange(number) + 0.5) / number)
    known = list(SIZES)
    return [known[place] for place in np.random.default_rng(seed).permutation(places)]


def encoded(number: int, seed: int = 0) -> list[bytes]:
    """So many JPEGs, the same ones for a seed."""
    wanted = sizes(number, seed)
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(lambda i: _jpeg(*wanted[i], (seed, i)), range(number)))


def _jpeg(width: int, height: int, seed: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    pixels = picture(width, height, np.random.default_rng(seed))
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def picture(width: int, height: int, random: np.random.Generator) -> np.ndarray:
    """[height, width, 3] RGB uint8: soft light, shapes in it, texture and grain over all."""
    light = Image.fromarray(random.integers(30, 226, (4, 5, 3), np.uint8))
    image = light.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(random.integers(8, 24)):
        _draw_shape(draw, random)
    coarse = random.normal(0, 16, (height // 6, width // 6)).astype(np.float32)
    texture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)
    grain = random.normal(0, 4, (height, width, 3))
    pixels = np.asarray(image) + np.asarray(texture)[..., None] + grain
    return np.asarray(pixels.clip(0, 255), np.uint8)


def _draw_shape(draw: ImageDraw.ImageDraw, random: np.random.Generator) -> None:
    """A filled ellipse, rectangle or polygon of any colour, anywhere, from tiny to large."""
    width, height = draw.im.size
    center = random.random(2) * (width, height)
    half = np.exp(random.uniform(np.log(4), np.log(min(width, height) / 3), 2))
    low, high = (tuple(corner.tolist()) for corner in (center - half, center + half))
    color = tuple(random.integers(0, 256, 3).tolist())
    kind = random.integers(3)
    if kind == 0:
        draw.ellipse((low, high), fill=color)
    elif kind == 1:
        draw.rectangle((low, high), fill=color)
    else:
        angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 8)))
        around = center + half * np.stack([np.cos(angles), np.sin(angles)], 1)
        draw.polygon([tuple(point) for point in around.tolist()], fill=color)
