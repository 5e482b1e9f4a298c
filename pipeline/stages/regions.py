"""Regions of large images as what a chain is executed for: rows of a manifest, and their reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipeline.config import Config
from pipeline.images.tiff_regions import Region
from pipeline.stages.download import Fetched
from pipeline.stages.fetch import Fetch
from pipeline.stages.reads import Read, Reads, begun

# Columns of a manifest of regions beside those of any: the image's URI, its bytes, and the width
# and height in pixels of what the region is of; and the numbers of `Region`, of which earlier
# versions wrote the first four.
WHOLE_URI, WHOLE_BYTES, WHOLE_SIZE, REGION = "whole_uri", "whole_bytes", "whole_size", "region"
FIELDS = pa.schema(
    [
        (WHOLE_URI, pa.string()),
        (WHOLE_BYTES, pa.int64()),
        (WHOLE_SIZE, pa.list_(pa.int64())),
        (REGION, pa.list_(pa.int64())),
    ]
)


def are_regions(rows: pa.Table) -> bool:
    """Whether rows are of regions; those of a table may carry a column called as one of these."""
    return set(FIELDS.names) <= set(rows.column_names)


class RegionReads(Reads):
    """Begins reads of regions."""

    def of(self, table: pa.Table) -> Iterator[Read]:
        """See `Reads.of`."""
        columns = [table[name].to_pylist() for name in (*FIELDS.names, "size_bytes")]
        for uri, size, whole, region, expected in zip(*columns, strict=True):
            yield begun(self._region(uri, size, tuple(whole), Region(*region))), expected

    async def _region(
        self, uri: str, size: int | None, whole: tuple[int, int], region: Region
    ) -> list[Fetched]:
        return [await self.stored.region(uri, size, whole, region)]


class RegionFetch(Fetch):
    """`Fetch` of the rows of a manifest of regions."""

    def __init__(self, config: Config, *others: Any) -> None:
        super().__init__(config, *others)
        self.reads = RegionReads(config, self.client)

    def _wholes(self, table: pa.Table) -> list[str]:
        wholes: list[str] = table[WHOLE_URI].to_pylist()
        return wholes
