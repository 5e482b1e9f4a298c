"""An export made, and what it should hold."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.readers import Found, stem
from jobs.export import main
from pipeline.labels.export.parts import FORMATS
from tests.support import outputs

# 1,024 bytes
LONG = "/".join(["d" * 200] * 4 + ["é" * 108 + ".jpg"])
NAMES = [
    "a b.jpg",
    "a'b\"c.jpg",
    "new\nline.jpg",
    "../up.jpg",
    "x/../../etc/passwd.jpg",
    "/abs.jpg",
    unicodedata.normalize("NFC", "é/é.jpg"),
    unicodedata.normalize("NFD", "é/é.jpg"),
    "A.jpg",
    "a.jpg",
    "a.png",
    "a.JPG",
    "q?#%.jpg",
    "q___.jpg",
    "con.jpg",
    "dot./b.jpg",
    "-rf.jpg",
    "<script>alert(1)</script>.jpg",
    "%2e%2e/z.jpg",
    "images/a.jpg",
    "x/images/y.jpg",
    "x/images_/y.jpg",
    "none",
    "日本/語.jpg",
    "k.jpg",
    "k.jpg/l.jpg",
    "\ufffe.jpg",
    LONG,
]
# the formats that are something without the images, too, and take any
LABELS = [
    kind
    for kind, shard in FORMATS.items()
    if not (shard.needs_images or shard.on_a_map or shard.by_directory)
]


def expected(
    output: Path, keep: Callable[[dict[str, Any]], bool] = lambda detection: True
) -> Found:
    """The detections of the rows that are ok, by base name."""
    found: Found = {}
    for row in outputs.rows(str(output)):
        if row["status"] == "ok":
            found[stem(os.path.basename(row["image_uri"]))] = [
                [
                    d["label"],
                    *(d[corner] for corner in ("xmin", "ymin", "xmax", "ymax")),
                    d["score"],
                ]
                for d in row["detections"]
                if keep(d)
            ]
    return found


def renamed(found: Found, names: dict[str, str]) -> Found:
    return {
        image: [[names[row[0]], *row[1:]] for row in rows if row[0] in names]
        for image, rows in found.items()
    }


def names_of(folder: Path) -> dict[str, str]:
    """URI to name."""
    with open(folder / "images.csv", encoding="utf-8", newline="") as file:
        return {row["image_uri"]: row["name"] for row in csv.DictReader(file)}


def run(output: Path, to: Path, *flags: str, format: str = "coco") -> int:
    return main([str(output), "--format", format, "--to", str(to), *flags])


def by_base(found: dict[str, Any]) -> dict[str, Any]:
    return {name.rpartition("/")[2]: rows for name, rows in found.items()}
