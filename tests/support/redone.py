"""Images of a synthetic output that its run has processed again, as `--refresh` leaves them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.outputs.files import FileName, encode
from tests.support import synthetic


def redo(output: Path, to: Path, changed: Collection[int]) -> Path:
    """A copy of an output of one file with other boxes, and other bytes, of images that are ok.

    Args:
        output: as `synthetic.write` has made it with one file.
        to: folder to be made.
        changed: their ids.
    """
    shutil.copytree(output, to)
    other = synthetic.write(to.parent / f"{to.name}-anew", max(changed) + 1, seed=7)
    before, after = (_rows(folder) for folder in (to, other))
    mine = pa.array([k in changed for k in before["image_id"].to_pylist()])
    anew = after.filter(pa.array([k in changed for k in after["image_id"].to_pylist()]))
    shutil.rmtree(other)
    was = before.filter(mine)
    for name in ("image_uri", "width", "height"):
        anew = synthetic.replaced(anew, name, was[name].to_pylist())
    synthetic.rewrite(_file(to), lambda table: table.filter(pa.compute.invert(mine)))
    file = FileName.new("ok", 0, 2, min(changed))
    (to / "detections" / str(file)).write_bytes(encode(anew, before.schema))
    path = to / "_run/run.json"
    record = json.loads(path.read_text())
    record["attempts"] *= 2
    path.write_text(json.dumps(record))
    return to


def _file(output: Path) -> Path:
    (file,) = (output / "detections/status=ok").iterdir()
    return file


def _rows(output: Path) -> pa.Table:
    return pq.ParquetFile(_file(output)).read()
