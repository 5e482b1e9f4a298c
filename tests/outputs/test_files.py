"""What a file of detections looks like inside."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq

from tests.support.writing import leased, write


def test_floats_are_stream_split_and_strings_dictionaries(tmp_path: Path) -> None:
    write(leased(tmp_path), list(range(100)))
    (path,) = (tmp_path / "detections/status=ok").iterdir()
    group = pq.ParquetFile(io.BytesIO(path.read_bytes())).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert "BYTE_STREAM_SPLIT" in columns["detections.list.element.xmin"].encodings
    assert "RLE_DICTIONARY" in columns["model_id"].encodings
    assert columns["image_id"].compression == "ZSTD"
