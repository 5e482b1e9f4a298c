"""An input's images, each once and numbered: how a manifest is made."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import words
from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import passed_over
from pipeline.inputs.access import WEB
from pipeline.inputs.digests import Digested, repeats
from pipeline.inputs.source import Source
from pipeline.inputs.sources import open_source
from pipeline.outputs import manifest
from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import Lease
from pipeline.outputs.manifest import LISTED, MEMBER, PART_ROWS, SLICE_ROWS, Manifest
from pipeline.store import objects, urls

log = logging.getLogger(__name__)
LINE_SECONDS = 60.0


def write(
    config: Config,
    layout: Layout,
    fingerprint: str,
    source: Source | None = None,
    part_rows: int = PART_ROWS,
    slice_rows: int = SLICE_ROWS,
    lease: Lease | None = None,
) -> Manifest:
    """List the input into the manifest's parts; what an interrupted listing left is replaced.

    Args:
        config: the run's.
        layout: of its output.
        fingerprint: of the run.
        source: in the place of all that the input holds.
        part_rows, slice_rows: see `Manifest`; a slice is a whole number of parts, or within one.
        lease: on the output, which a listing of hours may lose.

    Raises:
        UsageError: the input cannot be read, or holds no image.
        LeaseLost: another run took over.
    """
    source = source or open_source(config)
    counted = Counted()
    written = write_parts(layout, unique(source, config.limit, counted), 0, part_rows, lease)
    check_not_empty(config, source, written)
    passed_over.say(config, source)
    listed = Manifest(
        rows=written.rows,
        duplicates=counted.duplicates,
        columns=[n for n in source.schema.names if n not in (*LISTED.names, *MEMBER.names)],
        fingerprint=fingerprint,
        known_bytes=written.known_bytes,
        part_rows=part_rows,
        slice_rows=slice_rows,
    )
    manifest.save(listed, layout, lease)
    return listed


def write_parts(
    layout: Layout,
    tables: Iterator[pa.Table],
    number: int,
    part_rows: int,
    lease: Lease | None = None,
) -> Counted:
    """Write rows, without their ids, as the parts from a number on; there are no others after."""
    counted = Counted()
    for part in _parts(tables, part_rows):
        manifest.write_part(layout, number, part, lease)
        counted.add(part)
        number += 1
        if lease:
            lease.publish({"listed": counted.rows})
    for name in objects.names(layout.fs, layout.parts):  # of a listing that found more
        if name >= layout.part_name(number):
            objects.delete(layout.fs, f"{layout.parts}/{name}", lease.look if lease else None)
    return counted


def count(config: Config) -> Manifest:
    """What `write` would find, without writing anything."""
    source = open_source(config)
    counted = Counted()
    for table in unique(source, config.limit, counted):
        counted.add(table)
    check_not_empty(config, source, counted)
    passed_over.say(config, source)
    return Manifest(counted.rows, counted.duplicates, [], known_bytes=counted.known_bytes)


@dataclass
class Counted:
    """Rows written, their sizes as far as they are known, and rows left out so far."""

    rows: int = 0
    known_bytes: int = 0
    duplicates: int = 0

    def add(self, rows: pa.Table) -> None:
        self.rows += rows.num_rows
        self.known_bytes += pc.sum(rows["size_bytes"]).as_py() or 0


def check_not_empty(config: Config, source: Source, counted: Counted) -> None:
    if not counted.rows:
        where, wanted = urls.public(config.input), ", ".join(config.extensions)
        if source.is_table:
            raise UsageError(f"no images in {where}: the table has no rows")
        others = f"; passed over {passed_over.told(source)}" if source.passed else ""
        others = f"(looked for {wanted}{others}){_of_web(where)}"
        if ways := passed_over.ways(config, source):
            found, flags = zip(*ways, strict=True)
            told = f"no images under {where}, but {' and '.join(found)}: add {' or '.join(flags)}"
            raise UsageError(f"{told} {others}")
        raise UsageError(f"no images under {where} {others}")


def _of_web(where: str) -> str:
    is_file = urls.protocol(where) in WEB and not where.endswith("/")
    return "; the URL of a folder on a web server must end in /" if is_file else ""


def _parts(tables: Iterator[pa.Table], part_rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of so many, the last one shorter."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        while rows >= part_rows:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, part_rows)
            waiting, rows = [whole.slice(part_rows)], rows - part_rows
    if rows:
        yield pa.concat_tables(waiting)


def unique(source: Source, limit: int | None, counted: Counted) -> Iterator[pa.Table]:
    """The source's rows without repeated URIs, at most `limit` of them."""
    repeated = _repeats(source, limit) if source.may_repeat else np.empty(0, np.int64)
    first = kept = 0
    for table in _told(source.read(), "listing the input"):
        last = first + table.num_rows
        low, high = np.searchsorted(repeated, [first, last])
        if high > low:
            keep = np.ones(table.num_rows, bool)
            keep[repeated[low:high] - first] = False
            table = table.filter(pa.array(keep))
        first = last
        if limit is not None:
            table = table.slice(0, limit - kept)
        counted.duplicates += int(high - low)
        kept += table.num_rows
        yield table
        if limit is not None and kept >= limit:
            return


def _repeats(source: Source, limit: int | None) -> np.ndarray:
    """Sorted row numbers of every occurrence of a URI after its first.

    Of the rows until there are `limit` different ones, where so many can be kept in memory.
    """
    found, first = [], 0
    seen: set[str] = set()
    with Digested("row") as rows:
        for table in _told(source.read(), "looking for repeated URIs"):
            last = first + table.num_rows
            rows.add(table["image_uri"], np.arange(first, last))
            first = last
            if limit is not None and limit <= PART_ROWS:
                seen.update(map(urls.folded, table["image_uri"].to_pylist()))
                if len(seen) >= limit:
                    break
        for records in rows:
            records = np.sort(records)
            found.append(records["row"][repeats(records)])
    return np.sort(np.concatenate(found))


def _told(tables: Iterator[pa.Table], what: str) -> Iterator[pa.Table]:
    """The same tables, with a line a minute on how many rows have come, for that can take hours."""
    rows, told = 0, time.monotonic()
    for table in tables:
        rows += table.num_rows
        if time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            log.info("%s: %s so far", what, words.count(rows, "image"))
        yield table
