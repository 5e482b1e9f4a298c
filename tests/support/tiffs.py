"""What tifffile, which shares no code with Pillow, reads."""

from __future__ import annotations

import io

import numpy as np
import tifffile

from tests.support.hostile_layouts import Layout


def stored(data: bytes, layout: Layout) -> np.ndarray:
    """The samples as tifffile reads them: [height, width, samples]."""
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        values = np.asarray(opened.pages.first.asarray())
    if layout.planar == 2 and layout.samples > 1:
        values = np.moveaxis(values, 0, -1)
    return values.reshape(*values.shape[:2], layout.samples)
