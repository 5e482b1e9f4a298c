"""What tifffile, which shares no code with Pillow, reads and writes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

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


def pyramid(
    file: Path | io.BytesIO, pixels: np.ndarray, steps: tuple[int, ...], below: bool, **layout: Any
) -> list[np.ndarray]:
    """Write an image with overviews of each so-manieth row and column; returns these.

    Args:
        file: to be written.
        pixels: [height, width, 3] uint8.
        steps: of the overviews.
        below: whether they stand below the image's directory, or follow it.
        layout: see `tifffile.TiffWriter.write`, and whether it is a BigTIFF.
    """
    overviews = [pixels[::step, ::step] for step in steps]
    with tifffile.TiffWriter(file, bigtiff=layout.pop("bigtiff", False)) as writer:
        writer.write(pixels, subifds=len(steps) if below else None, metadata=None, **layout)
        for overview in overviews:
            writer.write(overview, subfiletype=1, metadata=None, **layout)
    return overviews
