"""Some rows of an input, drawn evenly from all of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.config import Config
from pipeline.inputs import enumeration
from pipeline.inputs.enumeration import Counted
from pipeline.inputs.source import Source
from pipeline.inputs.sources import open_source


@dataclass(frozen=True)
class Sample:
    """
    Attributes:
        source: of the rows that were drawn, in the input's order.
        counted: of the whole input.
    """

    source: Source
    counted: Counted


def draw(config: Config, size: int) -> Sample:
    """Draw rows at random while the input is listed; `size` of them are in memory.

    Each row gets a random number, and those of the smallest are kept.

    Raises:
        UsageError: the input cannot be read, or holds no image.
    """
    source = open_source(config)
    counted = Counted()
    random = np.random.default_rng(0)
    kept = source.schema.empty_table()
    keys, places = np.empty(0), np.empty(0, np.int64)
    for table in enumeration.unique(source, config.limit, counted):
        first = counted.rows
        counted.add(table)
        keys = np.concatenate((keys, random.random(table.num_rows)))
        places = np.concatenate((places, np.arange(first, counted.rows)))
        best = np.argsort(keys)[:size]
        best = best[np.argsort(places[best])]
        kept = pa.concat_tables([kept, table]).take(pa.array(best)).combine_chunks()
        keys, places = keys[best], places[best]
    enumeration.check_not_empty(config, source, counted)
    return Sample(Source(source.schema, lambda: iter([kept]), is_table=source.is_table), counted)
