"""Annotations of other programs, all of one box on the first of a few images."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.labels.truth import Truth

# of an image of 200x100 pixels: left, top, width and height, and the same as a line of YOLO
BOX = [20, 20, 100, 40]
LINE = "0 0.35 0.4 0.5 0.4\n"
# of the images.csv of an export
HEAD = "name,image_id,image_uri,width,height\n"


def write(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def check(truth: Truth, *names: str) -> None:
    """One box, on the first of these images, of 200x100 pixels."""
    assert truth.names == list(names) and truth.sizes[0].tolist() == [200, 100]
    assert truth.xywh.tolist() == [pytest.approx(BOX)]
    assert [*truth.category_ids] == ["cup"] and truth.image_places.tolist() == [0]
