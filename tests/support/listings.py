"""An input's manifest, written and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.config import Config
from pipeline.inputs import enumeration
from pipeline.outputs import manifest
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import Manifest


def listed(
    tmp_path: Path, part_rows: int = manifest.PART_ROWS, **options: Any
) -> tuple[pa.Table, Manifest]:
    """The manifest of an input, written and read back."""
    config = Config(output=str(tmp_path / "out"), **options)
    layout = Layout.of(config.output)
    found = enumeration.write(config, layout, "mark", part_rows=part_rows)
    assert manifest.load(layout, "mark") == found
    assert manifest.load(layout, "of another run") is None
    counted = enumeration.count(config)
    assert (counted.rows, counted.known_bytes) == (found.rows, found.known_bytes)
    table = pa.concat_tables([found.read_part(layout, number) for number in found.parts])
    assert found.known_bytes == sum(size or 0 for size in table["size_bytes"].to_pylist())
    return table, found


def uris(tmp_path: Path, **options: Any) -> list[str]:
    """The URIs of an input, in order of id; those below the folder relative to it."""
    table, _ = listed(tmp_path, **options)
    assert table["image_id"].to_pylist() == list(range(table.num_rows))
    return [uri.removeprefix(f"{tmp_path}/") for uri in table["image_uri"].to_pylist()]
