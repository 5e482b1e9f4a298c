"""Five hundred photographs from the S3 server through the real network, by the command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import skimage
from PIL import Image

from tests.support.outputs import files, rows
from tests.support.runs import SMALL

IMAGES = 500


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_five_hundred_photographs(s3: Any, bucket: str, tmp_path: Path) -> None:
    folder = Path(skimage.__file__).parent / "data"
    sources = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
    sizes = {}
    for number in range(IMAGES):
        source = sources[number % len(sources)]
        name = f"{number:03d}-{source.name}"
        sizes[name] = Image.open(source).size
        s3.put_object(Bucket=bucket, Key=f"images/{name}", Body=source.read_bytes())
    (tmp_path / "run.yaml").write_text(f"model: {SMALL}\nweights: random:0\n")
    output = f"s3://{bucket}/labels"
    command = [
        sys.executable,
        "-m",
        "jobs.detect",
        "--config",
        str(tmp_path / "run.yaml"),
        "--input",
        f"s3://{bucket}/images/",
        "--output",
        output,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    found = rows(output)
    assert [row["image_id"] for row in found] == list(range(IMAGES))
    by_name = {row["image_uri"].rsplit("/", 1)[-1]: row for row in found}
    assert {name: (row["width"], row["height"]) for name, row in by_name.items()} == sizes
    assert all(row["num_detections"] == len(row["detections"]) for row in found)
    # the same photograph under another name has the same boxes
    first = len(sources)
    for number in range(first, IMAGES):
        name = f"{number:03d}-{sources[number % first].name}"
        twin = f"{number % first:03d}-{sources[number % first].name}"
        assert by_name[name]["detections"] == by_name[twin]["detections"]
    record = json.load(io.BytesIO(files(output)["_run/run.json"]))
    print(f"\n{done.stdout}{json.dumps(record['attempts'][0]['seconds'])}")
