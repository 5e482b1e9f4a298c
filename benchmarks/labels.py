"""Time and peak memory of every job that reads an output, on made-up rows.

Usage: `python -m benchmarks.labels [--images N] [--folder DIR] [--formats NAME ...]`. Prints a
table. The reviews read what the exports have written, of all images. Uses nothing but the standard
library in this process, since a child's peak memory begins at its parent's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# whose tasks no person has looked at, which is what an export of them says
UNREVIEWED = ("labelstudio",)
FORMATS = ("coco", "yolo", "voc", "labelstudio", "cvat", "fiftyone", "huggingface")
# ground truth for every other image: its own boxes of score 0.5 and more
TRUTH = """
import json, sys
from pipeline.labels import boxes, classes
from pipeline.labels.output import open_output
output = open_output(sys.argv[1])
chosen = classes.choose(output.categories, 0.5)
images, annotations = [], []
for table in output.tables(boxes.COLUMNS, ("ok",)):
    for image in chosen.choose(boxes.from_table(table)).images():
        if image.image_id % 2:
            continue
        images.append({"id": image.image_id, "file_name": image.uri.rpartition("/")[2]})
        for label, (x0, y0, x1, y1) in zip(image.classes.tolist(), image.xyxy.tolist()):
            annotations.append({"id": len(annotations) + 1, "image_id": image.image_id,
                                "category_id": label + 1, "bbox": [x0, y0, x1 - x0, y1 - y0],
                                "area": (x1 - x0) * (y1 - y0), "iscrowd": 0})
categories = [{"id": k, "name": name} for k, name in enumerate(chosen.names, start=1)]
with open(sys.argv[2], "w") as file:
    json.dump({"images": images, "annotations": annotations, "categories": categories}, file)
"""


def run(*arguments: str) -> tuple[float, float]:
    """Seconds and peak MiB of a command."""
    started = time.monotonic()
    with open(os.devnull, "w") as null:
        process = subprocess.Popen([sys.executable, *arguments], stdout=null, stderr=null)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} failed with {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - started, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        output, truth = str(folder / "out"), str(folder / "truth.json")
        write = "import sys; from pathlib import Path; from tests.support import synthetic; "
        write += "synthetic.write(Path(sys.argv[1]), int(sys.argv[2]))"
        run("-c", write, output, str(given.images))
        run("-c", TRUTH, output, truth)
        commands = {
            "verify": ["jobs.verify", output],
            "evaluate (half annotated)": ["jobs.evaluate", output, "--annotations", truth],
            "select, 1,000": [
                "jobs.select",
                output,
                "--budget",
                "1000",
                "--to",
                str(folder / "list.csv"),
            ],
            "diff, with itself": ["jobs.diff", output, output],
            "report": ["jobs.report", output, "--to", str(folder / "report.html")],
            **{
                f"export {kind}": [
                    "jobs.export",
                    output,
                    "--format",
                    kind,
                    "--to",
                    str(folder / kind),
                ]
                for kind in given.formats
            },
            **{
                f"review of {kind}": [
                    "jobs.review",
                    output,
                    "--corrections",
                    str(folder / kind),
                    "--to",
                    str(folder / f"{kind}_review"),
                ]
                for kind in given.formats
                if kind not in UNREVIEWED
            },
            "calibrate (half annotated)": [
                "jobs.calibrate",
                output,
                "--corrections",
                truth,
                "--to",
                str(folder / "calibration.json"),
            ],
        }
        print(f"{given.images:,} images, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
        print("| job | seconds | peak MiB |\n| --- | --- | --- |")
        for job, command in commands.items():
            seconds, peak = run("-m", *command)
            print(f"| {job} | {seconds:.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
