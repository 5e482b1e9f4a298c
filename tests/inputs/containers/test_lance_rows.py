"""Tables of Lance: on a disk and in a bucket, pinned to the version that was listed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

from pipeline.errors import Code, UsageError
from pipeline.inputs.containers import lance_rows, reading
from pipeline.inputs.containers.members import MemberError
from pipeline.reading import Reading
from tests.support.listings import listed, uris

ROWS = 2 * lance_rows.ROWS + 3
LIMITS = reading.Limits(2**20, 2**20, 1.0)


@pytest.fixture(autouse=True)
def fresh() -> None:
    lance_rows._opened.cache_clear()


def table(first: int = 0) -> pa.Table:
    numbers = range(first, first + ROWS)
    return pa.table({"image": [b"%d" % n for n in numbers], "label": list(numbers)})


def read(row: dict[str, Any], column: str | None = "image") -> Any:
    return reading.read(row, row["source_uri"], column, LIMITS, False, Reading())


def test_images_of_the_version_that_was_listed(tmp_path: Path) -> None:
    url = str(tmp_path / "t.lance")
    written = lance.write_dataset(table(), url, max_rows_per_file=10)
    written.delete("label in (3, 20)")
    kept = [n for n in range(ROWS) if n not in (3, 20)]
    found, _ = listed(tmp_path, input=f"{url}/", bytes_column="image", carry=["label"])
    assert found["label"].to_pylist() == kept
    assert found["image_uri"].to_pylist() == [f"{url}#{row}" for row in range(len(kept))]
    rows = found.to_pylist()
    lance.write_dataset(table(1000), url, mode="overwrite")
    assert [read(row) for row in rows] == [b"%d" % n for n in kept]
    assert listed(tmp_path, input=url, bytes_column="image")[0].num_rows == ROWS
    shutil.rmtree(url)
    lance.write_dataset(table(), url)
    lance_rows._opened.cache_clear()
    with pytest.raises(
        MemberError, match="version 2 of the table, or a file of it, is gone"
    ) as error:
        read(rows[0])
    assert error.value.code is Code.CONTAINER_CHANGED


def test_in_a_bucket(s3: Any, bucket: str, tmp_path: Path) -> None:
    lance.write_dataset(table(), str(tmp_path / "t.lance"))
    for path in filter(Path.is_file, (tmp_path / "t.lance").rglob("*")):
        s3.put_object(Bucket=bucket, Key=str(path.relative_to(tmp_path)), Body=path.read_bytes())
    found, _ = listed(tmp_path, input=f"s3://{bucket}/t.lance", bytes_column="image")
    assert [read(row) for row in found.to_pylist()] == [b"%d" % n for n in range(ROWS)]


def test_uris_and_pairs(tmp_path: Path) -> None:
    named = pa.table({"uri": ["a.jpg", "/b.jpg", "a.jpg"]})
    lance.write_dataset(named, str(tmp_path / "in" / "u.lance"))
    assert uris(tmp_path, input=str(tmp_path / "in" / "u.lance")) == ["in/a.jpg", "/b.jpg"]
    pairs = pa.table({"x": [{"bytes": b"1", "path": None}, {"bytes": None, "path": "c.jpg"}]})
    lance.write_dataset(pairs, str(tmp_path / "p.lance"))
    found, _ = listed(tmp_path, input=str(tmp_path / "p.lance"))
    assert [read(row, None) for row in found.to_pylist()] == [b"1", f"{tmp_path}/c.jpg"]


def test_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="it does not exist"):
        listed(tmp_path, input=str(tmp_path / "none.lance"))
    lance.write_dataset(table(), str(tmp_path / "t.lance"))
    with pytest.raises(UsageError, match="choose one of its columns with bytes_column: image"):
        listed(tmp_path, input=str(tmp_path / "t.lance"))
    with pytest.raises(UsageError, match="'label' of .* holds int64, not image bytes"):
        listed(tmp_path, input=str(tmp_path / "t.lance"), bytes_column="label")
    with pytest.raises(UsageError, match="set AWS_PROFILE"):
        lance_rows.opened("s3://b/t.lance", Reading(s3_options={"profile": "x"}))
    lance_rows._opened.cache_clear()
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(UsageError, match="need pylance: pip install"):
        listed(tmp_path, input=str(tmp_path / "t.lance"), bytes_column="image")
