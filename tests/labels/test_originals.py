"""The images of an output, read again from where the run had them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from jobs import export, review
from pipeline import Config
from pipeline.inputs.containers import lance_rows
from pipeline.labels.annotations import load_truth
from pipeline.labels.originals import read, read_many
from pipeline.labels.output import open_output
from tests.support import synthetic
from tests.support.outputs import rows


@pytest.mark.parametrize("name, column", [("in.parquet", "image"), ("in.feather", None)])
def test_embedded_images(
    photographs: dict[str, bytes], tmp_path: Path, name: str, column: str | None
) -> None:
    """The column named, and found by itself."""
    names = sorted(photographs)
    images: list[dict[str, Any]] = [{"bytes": photographs[n], "path": n} for n in names]
    (tmp_path / names[1]).write_bytes(photographs[names[1]])
    images[1]["bytes"] = None  # which its path has
    table = pa.table({"image": images})
    if column:
        pq.write_table(table, tmp_path / name, row_group_size=3)
    else:
        feather.write_feather(table, tmp_path / name, chunksize=3)
    config = Config(
        input=str(tmp_path / name),
        output=str(tmp_path / "out"),
        weights="random:0",
        bytes_column=column,
    )
    synthetic.listed(config)
    output = open_output(config.output)
    wanted = [(row["image_id"], row["image_uri"], row["image_id"]) for row in rows(config.output)]
    found = dict(read_many(output, wanted))
    assert found == {number: photographs[name] for number, name in enumerate(names)}
    (tmp_path / name).unlink()
    assert "FileNotFoundError" in str(read(output, 0, wanted[0][1]))


def test_neighbours_in_lance_are_taken_once(photographs: dict[str, bytes], tmp_path: Path) -> None:
    lance.write_dataset(pa.table({"image": [*photographs.values()]}), str(tmp_path / "in.lance"))
    config = Config(
        input=str(tmp_path / "in.lance"),
        output=str(tmp_path / "out"),
        weights="random:0",
        bytes_column="image",
    )
    synthetic.listed(config)
    wanted = [(row["image_id"], row["image_uri"], row["image_id"]) for row in rows(config.output)]
    lance_rows._images.cache_clear()
    assert dict(read_many(open_output(config.output), wanted)) == dict(
        enumerate(photographs.values())
    )
    assert lance_rows._images.cache_info().misses == -(-len(photographs) // lance_rows.ROWS)
    # corrections name the version that the run has read
    lance.dataset(config.input).delete("true")
    to = [f"{tmp_path}/{name}" for name in ("coco", "corrections")]
    assert export.main([config.output, "--format", "coco", "--to", to[0]]) == 0
    assert review.main([config.output, "--corrections", to[0], "--to", to[1]]) == 0
    assert load_truth(to[1]).versions == {uri: 1 for _, uri, _ in wanted}


def test_files_and_what_is_gone(tmp_path: Path, folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    synthetic.write(tmp_path / "out", len(names), input=str(folder), names=names)
    output = open_output(str(tmp_path / "out"))
    (folder / names[3]).unlink()
    wanted = [(n, str(folder / name), name) for n, name in enumerate(names)]
    found = list(read_many(output, wanted))
    assert [name for name, _ in found] == names
    for name, data in found:
        if name == names[3]:
            assert isinstance(data, str) and "FileNotFoundError" in data
        else:
            assert data == (folder / name).read_bytes()


def test_a_local_file_named_by_a_remote_manifest_is_not_read(tmp_path: Path) -> None:
    output = open_output(str(synthetic.write(tmp_path / "out", 3)))
    (tmp_path / "file").write_bytes(b"local")
    local = str(tmp_path / "file")
    assert read(output, 0, local) == "UriError: protocol 'file', named by an input on 's3'"
    assert read(output, 0, "nope://x") == "UriError: protocol 'nope', named by an input on 's3'"
    output.record["config"]["trust_uris"] = True  # as the run that made it was told
    assert read(output, 0, local) == b"local"
    assert "cannot open nope://x" in str(read(output, 0, "nope://x"))
