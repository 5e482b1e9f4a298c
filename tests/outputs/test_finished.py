"""Files that appear whole, and ids that count once however often they were written."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import RunError
from pipeline.outputs import finished, schema
from pipeline.outputs.finished import Finished
from pipeline.outputs.lease import LeaseLost
from pipeline.outputs.schema import DETECTION, ROW
from pipeline.stages.write import Writer, by_file
from pipeline.store import objects, urls
from tests.support.fetching import Silent
from tests.support.outputs import rows, tables


def finished_rows(ids: Sequence[int], failed: Sequence[int] = ()) -> pa.Table:
    box = {"label_id": 1, "label": "x", "score": 0.5, "xmin": 0, "ymin": 0, "xmax": 1, "ymax": 1}
    ok = [number not in failed for number in ids]
    values: dict[str, Any] = {
        "image_id": ids,
        "image_uri": [f"/{number}.jpg" for number in ids],
        "detections": pa.array([[box] if good else None for good in ok], pa.list_(DETECTION)),
        "num_detections": [1 if good else None for good in ok],
        "model_id": ["m"] * len(ids),
        "run_id": ["r"] * len(ids),
        "error_code": [None if good else "truncated" for good in ok],
    }
    nulls = pa.nulls(len(ids))
    table = pa.table([values.get(name, nulls) for name in ROW.names], schema=ROW)
    return table.append_column("status", pa.array(["ok" if good else "error" for good in ok]))


@pytest.fixture
def output(tmp_path: Path) -> str:
    (tmp_path / "_run").mkdir()
    (tmp_path / "_run/lease.json").write_text('{"token": "mine"}')
    return str(tmp_path)


def write(
    output: str, ids: Sequence[int], failed: Sequence[int] = (), attempt: int = 1, index: int = 0
) -> pa.Table:
    written = schema.with_carried(pa.schema([]), {})
    writer = Writer(output, attempt, "mine", written, Silent(), index)  # type: ignore[arg-type]
    return writer(finished_rows(ids, failed))


def finished(output: str, count: int, **options: Any) -> Finished:
    fs, root = urls.filesystem(output)
    return Finished(fs, f"{root}/detections", 0, count, **options)


def ids(output: str) -> list[int]:
    return [row["image_id"] for row in rows(output)]


def test_two_files_a_write(output: str) -> None:
    summary = write(output, [3, 1, 2, 0], failed=[1])
    by_status = {name.split("/")[0]: table["image_id"] for name, table in by_file(summary)}
    assert by_status["status=ok"].to_pylist() == [3, 2, 0]
    assert by_status["status=error"].to_pylist() == [1]
    found = rows(output)
    assert [row["status"] for row in found] == ["ok", "error", "ok", "ok"]
    (table,) = (t for name, t in tables(output).items() if "status=ok" in name)
    assert table["image_id"].to_pylist() == [0, 2, 3]  # in order of id
    assert "status" not in table.column_names and b"detector" in table.schema.metadata


def test_nothing_is_written_without_the_lease(output: str) -> None:
    (Path(output) / "_run/lease.json").write_text('{"token": "other"}')
    with pytest.raises(LeaseLost):
        write(output, [0])
    assert ids(output) == []


def test_loading_counts_what_is_there(output: str) -> None:
    write(output, [0, 1, 2], failed=[1])
    write(output, [5, 6])
    state = finished(output, 8)
    state.load()
    assert np.flatnonzero(~state.done).tolist() == [3, 4, 7] and state.missing == 3
    assert state.detections == 4 and state.errors == {"truncated": 1}
    state.load()  # files that are known are not taken in again
    assert ids(output) == [0, 1, 2, 5, 6]


def test_repeated_rows_go(output: str) -> None:
    write(output, [0, 1, 2], failed=[2])
    write(output, [2, 3])  # in part there already
    write(output, [0, 1])  # wholly
    state = finished(output, 4)
    state.load()
    assert ids(output) == [0, 1, 2, 3] and state.missing == 0
    assert state.detections + sum(state.errors.values()) == 4
    assert len({str(table.schema) for table in tables(output).values()}) == 1
    again = finished(output, 4)
    again.load()
    assert (again.detections, again.errors) == (state.detections, state.errors)


def test_a_repeated_row_within_one_file(output: str) -> None:
    write(output, [0, 1, 1])
    state = finished(output, 2)
    state.load()
    assert ids(output) == [0, 1]


def test_a_zombies_file_is_found_at_the_end(output: str) -> None:
    state = finished(output, 4)
    state.load()
    for name, table in by_file(write(output, [0, 1, 2, 3], attempt=2)):
        state.add(name, table)
    write(output, [2, 3], attempt=1)  # by a worker of the run before, after its death
    state.load()
    assert ids(output) == [0, 1, 2, 3]


def test_other_slices_are_not_touched(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "SLICE_ROWS", 10)
    write(output, [8, 9])
    write(output, [10, 11], index=1)
    fs, root = urls.filesystem(output)
    second = Finished(fs, f"{root}/detections", 1, 5)
    second.load()
    assert np.flatnonzero(second.done).tolist() == [0, 1]


def test_a_store_lists_only_what_is_asked_for(s3: Any, bucket: str) -> None:
    fs, root = urls.filesystem(f"s3://{bucket}/out")
    for name in ("part-00001-a", "part-00001-b", "part-00010-a", "part-00011-a"):
        objects.put(fs, f"{root}/detections/{name}", b"x")
    objects.put(fs, f"{root}/part-00001-elsewhere", b"x")
    found = objects.names(fs, f"{root}/detections", "part-00001-")
    assert found == ["part-00001-a", "part-00001-b"]
    assert objects.names(fs, f"{root}/detections", "part-00002-") == []
    assert objects.names(fs, f"{root}/nothing", "part-") == []


def test_superseded_errors(output: str) -> None:
    write(output, [0, 1, 2, 3], failed=[1, 2])
    state = finished(output, 4, retry_from=2)
    state.load()
    assert np.flatnonzero(~state.done).tolist() == [1, 2]
    for name, table in by_file(write(output, [1, 2], failed=[2], attempt=2)):
        state.add(name, table)
    assert ids(output) == [0, 1, 1, 2, 2, 3]  # both, until the retry is complete
    state.remove_superseded()
    assert ids(output) == [0, 1, 2, 3]
    assert [row["status"] for row in rows(output)] == ["ok", "ok", "error", "ok"]


def test_a_damaged_file_is_named(output: str) -> None:
    write(output, [0, 1])
    (path,) = (Path(output) / "detections/status=ok").iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(RunError, match=f"{path.name} is damaged .*delete it and run"):
        finished(output, 2).load()


def test_floats_are_stream_split_and_strings_dictionaries(output: str) -> None:
    write(output, list(range(100)))
    (path,) = (Path(output) / "detections/status=ok").iterdir()
    group = pq.ParquetFile(io.BytesIO(path.read_bytes())).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert "BYTE_STREAM_SPLIT" in columns["detections.list.element.xmin"].encodings
    assert "RLE_DICTIONARY" in columns["model_id"].encodings
    assert columns["image_id"].compression == "ZSTD"
