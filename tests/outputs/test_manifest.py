"""Parts of manifests as earlier releases wrote them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import LISTED, MEMBER, Manifest

URLS = ["/t.parquet#0", "/t.parquet#1"]


@pytest.mark.parametrize("carried", ["label", "kind", "place"])
def test_images_of_parquet(tmp_path: Path, carried: str) -> None:
    """They had the row group and the row in columns of their own."""
    number = pa.int32()
    columns = {
        "image_uri": URLS,
        "size_bytes": pa.nulls(2, pa.int64()),
        "source_uri": ["/t.parquet"] * 2,
        "row_group": pa.array([0, 1], number),
        "row": pa.array([4, 0], number),
        carried: ["a", "b"],
    }
    layout = written(tmp_path, pa.table(columns))
    read = Manifest(2, 0, [carried]).read_part(layout, 0)
    assert read["source_place"].to_pylist() == [[0, 4], [1, 0]]
    assert read["source_kind"].to_pylist() == ["parquet"] * 2
    assert read.schema.names == ["image_id", *LISTED.names, *MEMBER.names, carried]
    assert pa.schema([read.schema.field(name) for name in MEMBER.names]) == MEMBER


def test_a_table_that_carried_such_names(tmp_path: Path) -> None:
    columns = {"image_uri": URLS, "size_bytes": [1, 2], "row_group": [1, 2], "source_kind": [3, 4]}
    read = Manifest(2, 0, []).read_part(written(tmp_path, pa.table(columns)), 0)
    assert read["row_group"].to_pylist() == [1, 2] and "source_place" not in read.schema.names


def written(folder: Path, part: pa.Table) -> Layout:
    layout = Layout.of(str(folder))
    (folder / "_run/manifest").mkdir(parents=True)
    pq.write_table(part, layout.part(0))
    return layout
