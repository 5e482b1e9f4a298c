"""How large the images are, which a table of URIs does not say."""

from __future__ import annotations

import asyncio
from typing import Any

import fsspec.asyn
import numpy as np
import pyarrow.parquet as pq

from pipeline.config import Config
from pipeline.inputs import access
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import MEMBER, Manifest
from pipeline.store import urls

# where nothing tells
UNKNOWN_BYTES = 2**19
PARTS, PER_PART = 8, 4
# for all of the sample; a run need not wait for a store that is away
SECONDS = 5.0


def mean_bytes(config: Config, layout: Layout, known: Manifest) -> float:
    """Mean bytes of an encoded image: of all that were listed, or else of a sample.

    Images of the sample that cannot be had are left out: what is wrong with them, their rows say.

    Raises:
        OSError, pyarrow.ArrowException: the manifest cannot be read.
    """
    if known.known_bytes:
        return known.known_bytes / known.rows
    sample: list[dict[str, Any]] = []
    for number in np.unique(np.linspace(0, known.parts[-1], PARTS, dtype=int)).tolist():
        part = known.read_part(layout, number)
        columns = [name for name in ("image_uri", *MEMBER.names) if name in part.column_names]
        places = np.unique(np.linspace(0, part.num_rows - 1, PER_PART, dtype=int))
        sample += part.select(columns).take(places).to_pylist()
    asked = _sizes(config, sample)
    found = asyncio.run_coroutine_threadsafe(asked, fsspec.asyn.get_loop()).result()
    return float(np.mean(found)) if found else UNKNOWN_BYTES


async def _sizes(config: Config, sample: list[dict[str, Any]]) -> list[float]:
    asked = [asyncio.ensure_future(_size(config, row)) for row in sample]
    answered, late = await asyncio.wait(asked, timeout=SECONDS)
    for task in late:
        task.cancel()
    sizes = [task.result() for task in answered if not task.exception()]
    return [size for size in sizes if size]


async def _size(config: Config, row: dict[str, Any]) -> float | None:
    if config.bytes_column:
        return await asyncio.to_thread(_embedded_size, config, row)
    fs, path = access.locate(
        row["image_uri"], config.input, config.trust_uris, reading=config.reading
    )
    info = await fs._info(path) if fs.async_impl else await asyncio.to_thread(fs.info, path)
    size: float | None = info.get("size")
    return size


def _embedded_size(config: Config, row: dict[str, Any]) -> float:
    """Mean of the row group, which is what its file tells."""
    fs, path = urls.filesystem(row["source_uri"], reading=config.reading)
    row_group, _ = row["source_place"]
    with fs.open(path) as file:
        group = pq.ParquetFile(file).metadata.row_group(row_group)
    columns = [group.column(index) for index in range(group.num_columns)]
    sizes = [
        c.total_uncompressed_size
        for c in columns
        if c.path_in_schema in (config.bytes_column, f"{config.bytes_column}.bytes")
    ]
    return float(sum(sizes) / group.num_rows)
