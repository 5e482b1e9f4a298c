"""What an input holds now, beside what its manifest says that it held.

Neither is ever wholly in memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import enumeration
from pipeline.inputs.digests import Digested, repeats
from pipeline.inputs.entries import digest
from pipeline.inputs.enumeration import Counted
from pipeline.inputs.source import Source
from pipeline.inputs.sources import by_products, open_source
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import MEMBER, Manifest

UNKNOWN = -1
# place of an image among the known or the listed ones, and what tells a change
VALUES = ("place", "size", "version", "member")
CHANGED = np.dtype([("image_id", "<i8"), ("row", "<i8"), ("moved", "?")])
# marks that are looked at together
BLOCK = 2**20


@dataclass(frozen=True)
class Difference:
    """Between a manifest and its input. The arrays lie in files, not in memory.

    Attributes:
        listed: file of the rows that the input holds now, in its order.
        schema: of the manifest's parts.
        duplicates: rows of the input whose URI had come before.
        new: [rows listed] bool.
        gone: [rows of the manifest] bool.
        changed: of `CHANGED` in order of id: the row of `listed`, and whether only the place in a
            container is another. A row of a container that is gone changes into a new image.
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
            "changed": int(np.count_nonzero(~self.changed["moved"])),
            "gone": int(np.count_nonzero(self.gone)),
        }

    def changes(self, first: int, last: int) -> np.ndarray:
        """Those of `changed` whose ids are from `first` to before `last`."""
        # numpy's search would copy all ids into memory
        ends = (bisect_left(self.changed, i, key=itemgetter("image_id")) for i in (first, last))
        return self.changed[slice(*ends)]


def compare(config: Config, layout: Layout, known: Manifest, folder: Path) -> Difference:
    """List the input into a file, and join it with the manifest by URI.

    An image has changed if its size or its version has, as far as both are known. It has moved if
    only its place in a container is another.
    """
    # those that an older version listed are neither gone nor new
    source, counted = open_source(config, by_products=True), Counted()
    _check(source, known.read_part(layout, 0).drop_columns("image_id").schema)
    listed = folder / "listed.arrow"
    with Digested(*VALUES) as before, Digested(*VALUES) as now:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(str(listed), source.schema, options=options) as file:
            for table in enumeration.unique(source, None, counted):
                _add(now, table, counted.rows)
                file.write_table(table)
                counted.add(table)
        enumeration.check_not_empty(config, source, counted)
        containers = [np.empty(0, np.int64)]
        for number in known.parts:
            part = known.known_part(layout, number)
            _add(before, part, number * known.part_rows)
            containers.append(_containers(part))
        new = np.memmap(folder / "new", bool, "w+", shape=counted.rows)
        gone = np.memmap(folder / "gone", bool, "w+", shape=known.rows)
        with open(folder / "changed", "wb") as changes:
            for old, fresh in zip(before, now, strict=True):
                changes.write(_join(old, fresh, new, gone).tobytes())
            if not source.is_table:
                _leave_by_products(config, listed, new)
            changes.write(_hand_over(np.concatenate(containers), new, gone).tobytes())
    changed = np.empty(0, CHANGED)
    if (folder / "changed").stat().st_size:
        changed = np.memmap(folder / "changed", CHANGED, "r+")
        changed.sort(order="image_id")
    return Difference(listed, source.schema, counted.duplicates, new, gone, changed)


def _check(source: Source, known: pa.Schema) -> None:
    if source.is_table and "source_uri" in source.schema.names:
        raise UsageError(
            "--refresh cannot tell new images from old ones in tables that hold the images "
            "themselves: run detect on the new files, with an output of their own"
        )
    for now, before in zip(source.schema, known, strict=True):
        if now.type != before.type:
            raise UsageError(
                f"column {now.name!r} of the input is now {now.type} and was {before.type}; "
                "choose another output"
            )


def batches(listed: Path) -> Iterator[pa.RecordBatch]:
    """Of `Difference.listed`, in its order."""
    with pa.memory_map(str(listed)) as file:
        reader = pa.ipc.open_file(file)
        yield from map(reader.get_batch, range(reader.num_record_batches))


def _leave_by_products(config: Config, listed: Path, new: np.ndarray) -> None:
    """Of the rows that are new, those of by-products are none of the run's."""
    is_by_product, first = by_products(config), 0
    for batch in batches(listed):
        fresh = np.flatnonzero(new[first : first + batch.num_rows])
        uris = batch["image_uri"].take(pa.array(fresh)).to_pylist()
        for place, uri in zip(fresh.tolist(), uris, strict=True):
            new[first + place] = not is_by_product(uri)
        first += batch.num_rows


def _add(rows: Digested, table: pa.Table, first: int) -> None:
    columns = (table[name] for name in ("size_bytes", "object_version"))
    told = (pc.fill_null(column, UNKNOWN).to_numpy() for column in columns)
    numbers = np.arange(first, first + table.num_rows)
    rows.add(table["image_uri"], numbers, *told, _members(table))


def _members(table: pa.Table) -> np.ndarray:
    """[rows] int64: what differs where the place in a container does."""
    if "source_uri" not in table.column_names:
        return np.full(table.num_rows, UNKNOWN)
    rows = table.select(MEMBER.names).to_pylist()
    places = (digest(repr(row).encode()) if row["source_uri"] else UNKNOWN for row in rows)
    return np.fromiter(places, np.int64, len(rows))


def _containers(part: pa.Table) -> np.ndarray:
    """Ids of the rows that stand for a container, or for the rest of it, that cannot be read."""
    if "source_uri" not in part.column_names:
        return np.empty(0, np.int64)
    itself = pc.equal(part["image_uri"], part["source_uri"])
    ids: np.ndarray = part["image_id"].filter(itself).to_numpy()
    return ids


def _hand_over(containers: np.ndarray, new: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """The rows of containers that are gone, as far as there are new images to take their place.

    Nothing lies in such a row that is worth keeping, and as an error it would be wrong.
    """
    ids = containers[gone[containers]]
    rows = np.fromiter(_marked(new, len(ids)), np.int64)
    changed = np.zeros(len(rows), CHANGED)
    changed["image_id"], changed["row"] = ids[: len(rows)], rows
    gone[changed["image_id"]], new[rows] = False, False
    return changed


def _marked(marks: np.ndarray, most: int) -> Iterator[int]:
    """The first places that are marked."""
    blocks = (np.flatnonzero(marks[i : i + BLOCK]) + i for i in range(0, len(marks), BLOCK))
    return islice(chain.from_iterable(blocks), most)


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
    content = _differ(old, fresh, "size") | _differ(old, fresh, "version")
    differs = content | (old["member"] != fresh["member"])
    changed = np.empty(np.count_nonzero(differs), CHANGED)
    changed["image_id"], changed["row"] = old["place"][differs], fresh["place"][differs]
    changed["moved"] = ~content[differs]
    return changed


def _differ(old: np.ndarray, fresh: np.ndarray, name: str) -> np.ndarray:
    """[rows] bool: whether both are known and not the same."""
    known = (old[name] != UNKNOWN) & (fresh[name] != UNKNOWN)
    return np.asarray(known & (old[name] != fresh[name]))
