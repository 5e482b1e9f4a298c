"""An output of real photographs that does its best to hurt whoever shows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.outputs import schema
from pipeline.outputs.files import FileName, encode
from tests.support import synthetic

CATEGORIES = {1: "cell", 2: '</script><script>document.title="owned"</script>', 7: "Zähne 歯 & Co"}
# each would run, or break the page, if it were not escaped; all are names that a disk takes
NAMES = (
    "plain.jpg",
    "<img src=x onerror=alert(1)>.jpg",
    "\"' onmouseover='alert(2)' x=\".jpg",
    "</script><script>document.title='owned'</script>.jpg",
    "line\nbreak \u202egpj.exe",
    "x" * 240 + ".jpg",
    "ein/Bild ü 写真.jpg",
    "<!--galleries-->{{7*7}}&amp;.jpg",
)
MESSAGE = "</script><script>alert('message')</script> " + "long " * 100_000


def found(random: np.random.Generator, width: int, height: int, n: int) -> list[dict[str, Any]]:
    scores = np.sort(random.uniform(0.06, 1, n))[::-1]
    boxes = []
    for score in scores.tolist():
        left, top = random.uniform(0, [width - 30, height - 30]).tolist()
        label = int(random.choice(list(CATEGORIES), p=[0.6, 0.2, 0.2]))
        boxes.append(
            {
                "label_id": label,
                "label": CATEGORIES[label],
                "score": score,
                "xmin": left,
                "ymin": top,
                "xmax": random.uniform(left + 10, width),
                "ymax": random.uniform(top + 10, height),
            }
        )
    return boxes


def write_output(output: Path, rows: list[dict[str, Any]], input: str, trained: bool) -> None:
    """An output of these rows, its `run.json` by `synthetic.write`."""
    synthetic.write(output, len(rows), input=input)
    shutil.rmtree(output / "detections")
    detector = synthetic.DETECTOR | {"categories": {str(k): v for k, v in CATEGORIES.items()}}
    written = schema.with_carried(pa.schema([]), detector)
    for status in schema.STATUSES:
        chosen = [row for row in rows if (row["detections"] is None) == (status == "error")]
        path = output / "detections" / str(FileName.new(status, 0, 1, 0))
        path.parent.mkdir(parents=True)
        path.write_bytes(encode(pa.Table.from_pylist(chosen, schema=schema.ROW), written))
    record = json.loads((output / "_run/run.json").read_text())
    record["weights"]["trained"] = trained
    record["counts"] |= {
        "ok": sum(row["detections"] is not None for row in rows),
        "detections": sum(len(row["detections"] or ()) for row in rows),
    }
    (output / "_run/run.json").write_text(json.dumps(record))


def write(base: Path, photographs: dict[str, bytes]) -> Path:
    """Real photographs under hostile names, with and without boxes, and three that failed.

    Args:
        base: receives `images/` and `out/`.
        photographs: eight of them.
    """
    random = np.random.default_rng(5)
    rows: list[dict[str, Any]] = []

    def add(name: str, data: bytes | None, n: int | None, **error: str) -> None:
        path = base / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = 640, 480
        if data is not None:
            path.write_bytes(data)
        if data is not None and n is not None:
            with Image.open(path) as image:
                width, height = image.size
        rows.append(
            {
                "image_id": len(rows),
                "image_uri": str(path),
                "image_bytes": len(data or b""),
                "width": None if n is None else width,
                "height": None if n is None else height,
                "detections": None if n is None else found(random, width, height, n),
                "num_detections": n,
                "model_id": "model",
                "run_id": "run",
                "attempts": 1,
                **error,
            }
        )

    for k, (name, data) in enumerate(zip(NAMES, photographs.values(), strict=True)):
        add(name, data, (9, 20, 3, 40, 0, 5, 12, 1)[k])
    add("gone.jpg", None, 4)
    add("changed.jpg", photographs["rocket.jpg"], 6)
    rows[-1]["width"] += 1
    whole = photographs["rocket.jpg"]
    add(
        "cut.jpg",
        whole[:2000],
        None,
        error_stage="decode",
        error_code="truncated",
        error_message=MESSAGE,
    )
    add("thin.jpg", whole, None, error_stage="forward", error_code="too_thin", error_message="thin")
    add("lost.jpg", None, None, error_stage="fetch", error_code="not_found", error_message="?")
    write_output(base / "out", rows, str(base / "images"), trained=False)
    return base / "out"
