"""What an input holds now, beside what its manifest says that it held.

Neither is ever wholly in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import enumeration
from pipeline.inputs.digests import Digested, repeats
from pipeline.inputs.enumeration import Counted
from pipeline.inputs.sources import by_products, open_source
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import Manifest

UNKNOWN = -1
# place of an image among the known or the listed ones, and what tells a change
VALUES = ("place", "size", "version")
CHANGED = np.dtype([("image_id", "<i8"), ("size", "<i8"), ("version", "<i8")])


@dataclass(frozen=True)
class Difference:
    """Between a manifest and its input. The arrays lie in files, not in memory.

    Attributes:
        listed: file of the rows that the input holds now, in its order.
        schema: of the manifest's parts.
        duplicates: rows of the input whose URI had come before.
        new: [rows listed] bool.
        gone: [rows of the manifest] bool.
        changed: of `CHANGED` in order of id, with sizes and versions as they are now.
    """

    listed: Path
    schema: pa.Schema
    duplicates: int
    new: np.ndarray
    gone: np.ndarray
    changed: np.ndarray

    def counts(self) -> dict[str, int]:
        return {
            "new": int(np.count_nonzero(self.new)),
            "changed": len(self.changed),
            "gone": int(np.count_nonzero(self.gone)),
        }


def compare(config: Config, layout: Layout, known: Manifest, folder: Path) -> Difference:
    """List the input into a file, and join it with the manifest by URI.

    An image has changed if its size or its version has, as far as both are known.
    """
    # those that an older version listed are neither gone nor new
    source, counted = open_source(config, by_products=True), Counted()
    if "source_uri" in source.schema.names:
        raise UsageError(
            "--refresh cannot tell the new images of tables that hold them from the old: run on "
            "the new files, into an output of their own"
        )
    schema = known.read_part(layout, 0).drop_columns("image_id").schema
    for now, before in zip(source.schema, schema, strict=True):
        if now.type != before.type:
            raise UsageError(
                f"column {now.name!r} of the input holds {now.type} now and held "
                f"{before.type}; choose another output"
            )
    listed = folder / "listed.arrow"
    with Digested(*VALUES) as before, Digested(*VALUES) as now:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(str(listed), source.schema, options=options) as file:
            for table in enumeration.unique(source, None, counted):
                _add(now, table, counted.rows)
                file.write_table(table)
                counted.add(table)
        enumeration.check_not_empty(config, source, counted)
        for number in known.parts:
            _add(before, known.known_part(layout, number), number * known.part_rows)
        new = np.memmap(folder / "new", bool, "w+", shape=counted.rows)
        gone = np.memmap(folder / "gone", bool, "w+", shape=known.rows)
        with open(folder / "changed", "wb") as changes:
            for old, fresh in zip(before, now, strict=True):
                changes.write(_join(old, fresh, new, gone).tobytes())
    if not source.is_table:
        _leave_by_products(config, listed, new)
    changed = np.empty(0, CHANGED)
    if (folder / "changed").stat().st_size:
        changed = np.memmap(folder / "changed", CHANGED, "r+")
        changed.sort(order="image_id")
    return Difference(listed, source.schema, counted.duplicates, new, gone, changed)


def _leave_by_products(config: Config, listed: Path, new: np.ndarray) -> None:
    """Of the rows that are new, those of by-products are none of the run's."""
    is_by_product, first = by_products(config), 0
    for batch in pa.ipc.open_stream(str(listed)):
        fresh = np.flatnonzero(new[first : first + batch.num_rows])
        uris = batch["image_uri"].take(pa.array(fresh)).to_pylist()
        for place, uri in zip(fresh.tolist(), uris, strict=True):
            new[first + place] = not is_by_product(uri)
        first += batch.num_rows


def _add(rows: Digested, table: pa.Table, first: int) -> None:
    columns = (table[name] for name in ("size_bytes", "object_version"))
    told = (pc.fill_null(column, UNKNOWN).to_numpy() for column in columns)
    rows.add(table["image_uri"], np.arange(first, first + table.num_rows), *told)


def _join(before: np.ndarray, now: np.ndarray, new: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Mark what only one side has; returns what both have and has changed."""
    # an older version told URIs apart by the case of their scheme
    before = np.sort(before)
    both = np.concatenate((before[~repeats(before)], now))
    is_now = np.arange(len(both)) >= len(both) - len(now)
    order = np.lexsort((is_now, both["low"], both["high"]))
    both, is_now = both[order], is_now[order]
    paired = repeats(both)
    paired[:-1] |= paired[1:]
    new[both["place"][~paired & is_now]] = True
    gone[both["place"][~paired & ~is_now]] = True
    old, fresh = both[paired & ~is_now], both[paired & is_now]
    differs = np.zeros(len(old), bool)
    for name in ("size", "version"):
        known = (old[name] != UNKNOWN) & (fresh[name] != UNKNOWN)
        differs |= known & (old[name] != fresh[name])
    changed = np.empty(np.count_nonzero(differs), CHANGED)
    changed["image_id"] = old["place"][differs]
    changed["size"], changed["version"] = fresh["size"][differs], fresh["version"][differs]
    return changed
