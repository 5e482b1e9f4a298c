"""An input listed again, and its manifest brought up to date.

New images get the ids after the last one. Changed ones keep theirs and lose their rows. So both are
simply missing to the run that follows. What is gone keeps its row, but for containers that could
not be read: theirs become rows of new images.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import words
from pipeline.config import Config
from pipeline.driver import regions
from pipeline.errors import RunError, UsageError
from pipeline.inputs import enumeration
from pipeline.inputs.difference import Difference, batches, compare
from pipeline.inputs.fresh import Fresh
from pipeline.outputs import manifest, seal
from pipeline.outputs.finished import Finished
from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import Lease, LeaseLost
from pipeline.outputs.manifest import Manifest
from pipeline.store import objects, urls

log = logging.getLogger(__name__)
# images that are gone, of which it is said
NAMED = 3


def check(config: Config) -> None:
    """
    Raises:
        UsageError: its input cannot be listed again.
    """
    if config.retries_failures:
        raise UsageError(
            "--refresh lists the input of the run again: give that as --input, not the table of "
            "failed images"
        )
    if config.limit is not None:
        raise UsageError(
            "--refresh cannot be combined with --limit: which images are the first may change"
        )
    if config.bytes_column:
        raise UsageError(
            "--refresh cannot tell new images of a bytes_column from old ones: run detect on the "
            "new files, with an output of their own"
        )


def refresh(config: Config, layout: Layout, mark: str, dry_run: bool = False) -> None:
    """List the input of a run again, and make what is new or has changed missing in its output.

    Does nothing where the run has not come to listing. Needs space for files in TMPDIR: 80 bytes an
    image, the listing itself, and uncompressed what it says of changed images.

    Args:
        config: of the run.
        layout: of its output.
        mark: its fingerprint.
        dry_run: only say what there is to do.

    Raises:
        UsageError: the input cannot be read, holds no image, or its columns are others now; or
            another run is writing to the output.
        RunError: it broke off; the same call continues it.
    """
    known = manifest.load(layout, mark)
    if not known:
        return
    if dry_run:
        _refresh(config, layout, known, None)
        return
    try:
        with Lease(layout) as lease:
            # read again: who held the lease before may have changed it
            if known := manifest.load(layout, mark):
                _refresh(config, layout, known, lease)
    except (OSError, LeaseLost) as error:
        text = words.explain(error)
        raise RunError(f"the refresh of {layout.url} failed: {text}") from error


def _refresh(config: Config, layout: Layout, known: Manifest, lease: Lease | None) -> None:
    """Without a lease it is only said what there is to do."""
    with tempfile.TemporaryDirectory() as folder:
        difference = compare(config, layout, known, Path(folder))
        counts = difference.counts()
        shown = [f"{number:,}" for number in (*counts.values(), known.rows)]
        log.info("refresh   %s new, %s changed, %s gone of %s images", *shown)
        for image_id, uri in _examples(layout, known, difference.gone):
            log.info("          gone: image %d, %s", image_id, urls.public(uri))
        if lease and not _is_noted(layout, difference):
            _apply(layout, known, difference, lease)


def _is_noted(layout: Layout, difference: Difference) -> bool:
    """Whether the output says all of it already."""
    # what an interrupted call has begun is to be noted in the manifest
    if objects.get(layout.fs, layout.refreshing) is not None:
        return False
    if difference.new.any() or len(difference.changed):
        return False
    data, gone = objects.get(layout.fs, layout.gone), np.flatnonzero(difference.gone)
    before = pq.read_table(pa.BufferReader(data))["image_id"].to_numpy() if data else gone[:0]
    return np.array_equal(before, gone)


def _examples(layout: Layout, known: Manifest, gone: np.ndarray) -> Iterator[tuple[int, str]]:
    for image_id in np.flatnonzero(gone)[:NAMED].tolist():
        number, place = known.place(image_id)
        yield image_id, known.known_part(layout, number)["image_uri"][place].as_py()


def _apply(layout: Layout, known: Manifest, difference: Difference, lease: Lease) -> None:
    """Until its end another call begins again, and comes to the same end."""
    counts = difference.counts()
    # parts that an interrupted call has written show nothing changed
    interrupted = objects.get_json(layout.fs, layout.refreshing) or {}
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    note: dict[str, Any] = {"at": interrupted.get("at", now)}
    note |= {name: max(count, interrupted.get(name, 0)) for name, count in counts.items()}
    lease.put(layout.refreshing, json.dumps(note).encode())
    if counts["new"] or counts["changed"]:
        lease.delete(layout.success)
    if counts["new"]:  # the last slice grows
        seal.remove(lease, known.slices[-1])
    for index in known.slices:
        changes = difference.changes(known.first_id(index), known.first_id(index + 1))
        changed = changes["image_id"][~changes["moved"]]
        if len(changed):
            seal.remove(lease, index)
            regions.remove(layout, index, lease.look)  # of an image as it was before
            Finished.of(layout, known, index, check=lease.look).forget(changed)
    grown = _write_parts(layout, known, difference, lease)
    _write_gone(layout, known, difference.gone, lease)
    # of a call that was interrupted once it had saved the manifest
    others = [other for other in known.refreshed if other["at"] != interrupted.get("at")]
    manifest.save(
        dataclasses.replace(
            known,
            rows=known.rows + counts["new"],
            known_bytes=known.known_bytes + grown,
            duplicates=difference.duplicates,
            refreshed=[*others, note],
        ),
        layout,
        lease,
    )
    lease.delete(layout.refreshing)


def _write_parts(layout: Layout, known: Manifest, difference: Difference, lease: Lease) -> int:
    """Write the parts that change, and those to come; returns by how many bytes the images grew."""
    last, in_last = known.place(known.rows)
    grown = _write_changed(layout, known, difference, lease) if len(difference.changed) else 0
    if difference.new.any():

        def tables() -> Iterator[pa.Table]:
            nonlocal grown
            if in_last:
                yield (
                    known.known_part(layout, last).drop_columns("image_id").cast(difference.schema)
                )
            first = 0
            for batch in batches(difference.listed):
                mask = pa.array(difference.new[first : first + batch.num_rows])
                table = pa.table(batch).filter(mask)
                first += batch.num_rows
                grown += _bytes(table)
                yield table

        enumeration.write_parts(layout, tables(), last, known.part_rows, lease)
    return grown


def _write_changed(layout: Layout, known: Manifest, difference: Difference, lease: Lease) -> int:
    fresh, grown = Fresh(difference), 0
    for number in known.parts:
        first = number * known.part_rows
        changes = difference.changes(first, first + known.part_rows)
        if len(changes):
            before = known.known_part(layout, number)
            part = _updated(before, changes["image_id"] - first, fresh.take(changes["row"]))
            grown += _bytes(part) - _bytes(before)
            manifest.write_part(layout, number, part.drop_columns("image_id"), lease)
    return grown


def _updated(part: pa.Table, places: np.ndarray, fresh: pa.Table) -> pa.Table:
    """The part with what is listed now of the images in these places of it."""
    # each row of the part, or the one that stands after all of them in its place
    source = np.arange(part.num_rows)
    source[places] = part.num_rows + np.arange(len(places))
    for name in (name for name in fresh.column_names if name in part.column_names):
        both = pa.concat_arrays([part[name].combine_chunks(), fresh[name].combine_chunks()])
        index = part.column_names.index(name)
        part = part.set_column(index, part.schema.field(name), both.take(pa.array(source)))
    return part


def _bytes(table: pa.Table) -> int:
    return pc.sum(table["size_bytes"]).as_py() or 0


def _write_gone(layout: Layout, known: Manifest, gone: np.ndarray, lease: Lease) -> None:
    """The images whose rows are of objects that the input does not hold any more."""
    buffer = io.BytesIO()
    schema = pa.schema([("image_id", pa.int64()), ("image_uri", pa.string())])
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for number in np.unique(np.flatnonzero(gone) // known.part_rows).tolist():
            part = known.known_part(layout, number)
            mask = gone[number * known.part_rows :][: part.num_rows]
            writer.write_table(part.filter(pa.array(mask)).select(schema.names).cast(schema))
    lease.put(layout.gone, buffer.getvalue())
