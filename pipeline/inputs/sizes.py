"""How large the images are, which a table of URIs does not say."""

from __future__ import annotations

import asyncio
from typing import Any

import fsspec.asyn
import numpy as np

from pipeline.config import Config
from pipeline.inputs import access, row_groups
from pipeline.inputs.containers.parquet import image_column
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
    if row.get("source_kind") == "parquet":
        return await asyncio.to_thread(_embedded_size, config, row)
    fs, path = access.locate(
        row["image_uri"], config.input, config.trust_uris, reading=config.reading
    )
    info = await fs._info(path) if fs.async_impl else await asyncio.to_thread(fs.info, path)
    size: float | None = info.get("size")
    return size


def _embedded_size(config: Config, row: dict[str, Any]) -> float:
    """Mean of the row group, which is what its file tells."""
    source, group = row["source_uri"], row["source_place"][0]
    fs, path = urls.filesystem(source, reading=config.reading)
    column = config.bytes_column or image_column(row_groups.schema(fs, path), source)
    return row_groups.mean_bytes(fs, path, group, column)
