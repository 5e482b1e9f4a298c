"""The display matrix of a video: how its pictures are turned to be shown."""

from __future__ import annotations

import numpy as np

MATRIX_BYTES = 36


def upright(pixels: np.ndarray, matrix: bytes) -> np.ndarray:
    """The pixels as a player shows them, by quarter turns and mirrorings.

    Args:
        pixels: [height, width, 3], as stored.
        matrix: nine int32, as `av_display_matrix_rotation_get` of FFmpeg takes them: (a, b, u, c,
            d, v, x, y, w) move a point (p, q) to (ap + cq, bp + dq). Of angles between two quarter
            turns the nearer one is taken; empty for none.
    """
    if len(matrix) < MATRIX_BYTES:
        return pixels
    a, b, _, c, d, *_ = np.frombuffer(matrix[:MATRIX_BYTES], "=i4").tolist()
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels = pixels.transpose(1, 0, 2)
        a, d = c, b
    if a < 0:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if d < 0 else pixels
