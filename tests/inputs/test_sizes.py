"""How large the images of an input are taken to be."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Config
from pipeline.inputs import enumeration, sizes
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import PART_ROWS


def taken(tmp_path: Path, source: object, part_rows: int = PART_ROWS, **options: Any) -> float:
    """What a run of that input would find."""
    config = Config(input=str(source), output=str(tmp_path / "out"), **options)
    layout = Layout.of(config.output)
    known = enumeration.write(config, layout, "", part_rows=part_rows)
    return sizes.mean_bytes(config, layout, known)


def list_of(tmp_path: Path, uris: list[str]) -> Path:
    path = tmp_path / "list.txt"
    path.write_text("\n".join(uris))
    return path


def test_a_listing_knows_all(folder: Path, tmp_path: Path, photographs: dict[str, bytes]) -> None:
    assert taken(tmp_path, folder) == np.mean([len(data) for data in photographs.values()])


def test_a_table_is_sampled_from_start_to_end(s3: Any, bucket: str, tmp_path: Path) -> None:
    for number in range(30):  # those at the end are the large ones
        s3.put_object(Bucket=bucket, Key=f"{number:02d}.jpg", Body=bytes(1000 + 300 * number))
    uris = [f"s3://{bucket}/{number:02d}.jpg" for number in range(30)]
    found = taken(tmp_path, list_of(tmp_path, uris), part_rows=10)
    assert found == 1000 + 300 * 14.5


def test_what_cannot_be_read_is_left_out(folder: Path, tmp_path: Path) -> None:
    size = (folder / "rocket.jpg").stat().st_size
    uris = [f"{tmp_path}/gone.jpg", f"{folder}/rocket.jpg", "nonsense://host/x.jpg", ""]
    assert taken(tmp_path, list_of(tmp_path, uris)) == size
    assert taken(tmp_path, list_of(tmp_path, uris[:1])) == sizes.UNKNOWN_BYTES


def test_a_silent_server_is_not_waited_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        uris = [f"http://127.0.0.1:{port}/x.jpg", f"{folder}/rocket.jpg"]
        found = taken(tmp_path, list_of(tmp_path, uris))
    assert found == (folder / "rocket.jpg").stat().st_size


@pytest.mark.parametrize("struct", [False, True])
def test_embedded_images(tmp_path: Path, struct: bool) -> None:
    random = np.random.default_rng(0)
    images: list[Any] = [random.bytes(20_000) for _ in range(20)]
    if struct:
        images = [{"bytes": image, "path": "x" * 5000} for image in images]
    table = pa.table({"image": images, "other": [random.bytes(9000) for _ in range(20)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=5)
    found = taken(tmp_path, tmp_path / "t.parquet", bytes_column="image")
    assert found == pytest.approx(20_000, rel=0.01)
