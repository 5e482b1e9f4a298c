"""Every export of one output, read by programs that are not ours, beside the output itself.

Usage: `python -m benchmarks.readback OUTPUT --python PYTHON ...`, where each PYTHON has some of the
readers (label-studio-sdk, supervision, labelformat, datumaro, pycocotools, panlabel, fiftyone,
ultralytics, datasets); what no PYTHON has is named at the end. OUTPUT's images must still be there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.readers import Found, stem
from benchmarks.readers.table import READERS
from pipeline.labels import boxes
from pipeline.labels.export.exporter import export
from pipeline.labels.export.naming import input_folder, relative_name
from pipeline.labels.export.target import Options
from pipeline.labels.output import open_output

ROOT = Path(__file__).parents[1]


def detections(url: str) -> Found:
    """What the output itself holds."""
    run = open_output(url)
    folder = input_folder(run.input)
    found: Found = {}
    for table in run.tables(boxes.COLUMNS, ("ok",)):
        for row in table.to_pylist():
            found[stem(relative_name(row["image_uri"], folder))] = [
                [d["label"], d["xmin"], d["ymin"], d["xmax"], d["ymax"], d["score"]]
                for d in row["detections"]
            ]
    return found


def read(reader: str, folder: str, pythons: list[str]) -> dict[str, Any] | str:
    """What the first Python that has the reader makes of it, or why none does."""
    package = READERS[reader][1]
    for python in pythons:
        probe = f"import importlib.metadata as m; m.version({package!r})"
        if subprocess.run([python, "-c", probe], capture_output=True).returncode == 0:
            command = [python, "-m", "benchmarks.readers", reader, folder]
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
            if done.returncode:
                return f"{package}: {done.stderr.strip().splitlines()[-1]}"
            return dict(json.loads(done.stdout.splitlines()[-1]))
    return f"{package} is in none of the Pythons"


def compare(expected: Found, found: Found) -> tuple[float, float | None]:
    """The largest difference of a corner in pixels, and of a score, or None if one is dropped.

    Readers may change the order of an image's boxes: each is compared with the nearest.

    Raises:
        ValueError: images, or labels of an image, differ.
    """
    if names := set(expected) ^ set(found):
        raise ValueError(f"{len(names)} images differ, for instance {min(names)!r}")
    corners, scores = [0.0], [0.0]
    for name, rows in expected.items():
        labels = sorted(row[0] for row in rows)
        if labels != sorted(row[0] for row in found[name]):
            raise ValueError(f"labels of {name!r} differ")
        for label in set(labels):
            old = np.array([row[1:] for row in rows if row[0] == label], float)
            new = np.array([row[1:] for row in found[name] if row[0] == label], float)
            apart = np.abs(old[:, None, :4] - new[:, :4]).max(2)
            nearest = apart.argmin(1)
            corners += [apart.min(1).max(), apart.min(0).max()]
            scores.append(np.abs(old[:, 4] - new[nearest, 4]).max())
    worst = float(max(corners))
    return worst, None if np.isnan(scores).any() else float(max(scores))


def row(expected: Found, found: Found) -> str:
    """The columns from the number of images on."""
    numbers = f"{len(found):,} | {sum(map(len, found.values())):,}"
    try:
        worst, score = compare(expected, found)
    except ValueError as error:
        return f"{numbers} | {error} |"
    return f"{numbers} | {worst:.4f} | {'dropped' if score is None else f'within {score:.0e}'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--python", nargs="*", default=[], help="besides this one")
    parser.add_argument("--confidence", action="store_true", help="as of jobs.export")
    options = parser.parse_args()
    expected = detections(options.output)
    missing = []
    print("| format | reader | images | boxes | largest difference, px | scores |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        for name in dict.fromkeys(kind for kind, *_ in READERS.values()):
            folder = f"{scratch}/{name}"
            confidence = options.confidence and name in ("yolo", "voc", "cvat")
            prefix = "http://localhost/" if name == "labelstudio" else None
            export(
                options.output,
                Options(
                    format=name,
                    to=folder,
                    with_images=True,
                    image_prefix=prefix,
                    confidence=confidence,
                ),
            )
            for reader, (kind, package, _) in READERS.items():
                if kind != name:
                    continue
                result = read(reader, folder, [sys.executable, *options.python])
                if isinstance(result, str):
                    missing.append(f"{reader}: {result}")
                    continue
                print(
                    f"| {reader.rpartition('_')[0]} | {package} {result['version']} "
                    f"| {row(expected, result['boxes'])} |",
                    flush=True,
                )
    for line in missing:
        print(f"not read: {line}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
