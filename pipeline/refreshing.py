"""An input listed again: what is new, what has changed, and what is gone since its manifest.

New images get the ids after the last one. Changed ones keep theirs and lose their rows. So both are
simply missing to the run that follows. What is gone keeps its row.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import manifest, objects, storage
from pipeline.config import Config, UsageError
from pipeline.layout import Output
from pipeline.manifest import HASH_BUCKETS, PART_ROWS, SLICE_ROWS, Counted, Manifest
from pipeline.sink import Finished
from pipeline.sources import LISTED, open_source

log = logging.getLogger(__name__)
EXAMPLES = 3
UNKNOWN = -1
# digest of a URI, its place among the known or the listed images, and what tells a change
SEEN = np.dtype([("high", "<u8"), ("low", "<u8"), ("place", "<i8"),
                 ("size", "<i8"), ("version", "<i8")])  # fmt: skip
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


def check(config: Config) -> None:
    """
    Raises:
        UsageError: its input cannot be listed again.
    """
    if config.retries_failures:
        raise UsageError("--refresh lists the input again: give the run's own --input")
    if config.limit is not None:
        raise UsageError("--refresh takes no --limit: which images are the first ones may change")
    if config.bytes_column:
        raise UsageError("--refresh cannot tell the new images of a bytes_column from the old: run "
                         "on the new files, into an output of their own")  # fmt: skip


def refresh(config: Config, output: Output, known: Manifest, dry_run: bool = False) -> None:
    """List the input of a run again, and make what is new or has changed missing in its output.

    Needs space for files in TMPDIR, some 150 bytes an image.

    Args:
        config: of the run.
        output: of it, whose lease is held.
        known: its manifest.
        dry_run: only say what there is to do.

    Raises:
        UsageError: the input cannot be read, holds no image, or its columns are others now.
    """
    with tempfile.TemporaryDirectory() as folder:
        difference = compare(config, output, known, Path(folder))
        counts = difference.counts()
        log.info("refresh   %s new, %s changed, %s gone of %s images",
                 *(f"{n:,}" for n in (*counts.values(), known.rows)))  # fmt: skip
        for image_id, uri in _examples(output, known, difference.gone):
            log.info("          gone: image %d, %s", image_id, storage.public(uri))
        gone_before = known.refreshed[-1]["gone"] if known.refreshed else 0
        same = counts == {"new": 0, "changed": 0, "gone": gone_before}
        if not dry_run and not same:
            _apply(output, known, difference)


def compare(config: Config, output: Output, known: Manifest, folder: Path) -> Difference:
    """List the input into a file, and join it with the manifest by the URIs' digests.

    An image has changed if its size or its version has, as far as both are known. Digests are
    spread evenly over files and joined a file at a time, so memory holds a 64th of them.
    """
    source, counted = open_source(config), Counted()
    schema = _with_versions(manifest.read_part(output.fs, output.run, 0)).drop_columns("image_id")
    for now, before in zip(source.schema, schema.schema, strict=True):
        if now.type != before.type:
            raise UsageError(f"column {now.name!r} of the input holds {now.type} now and held "
                             f"{before.type}; choose another output")  # fmt: skip
    listed = folder / "listed.arrow"
    with ExitStack() as stack:
        before, now = (
            [stack.enter_context(open(folder / f"{name}-{i}", "w+b")) for i in range(HASH_BUCKETS)]
            for name in ("before", "now")
        )
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(str(listed), source.schema, options=options) as file:
            for table in manifest.unique(source, None, counted):
                _spread(table, counted.rows, now)
                file.write_table(table)
                counted.add(table)
        manifest.check_not_empty(config, source, counted)
        for number in range(-(-known.rows // PART_ROWS)):
            _spread(_part(output, known, number), number * PART_ROWS, before)
        new = np.memmap(folder / "new", bool, "w+", shape=counted.rows)
        gone = np.memmap(folder / "gone", bool, "w+", shape=known.rows)
        with open(folder / "changed", "wb") as changes:
            for old, fresh in zip(before, now, strict=True):
                changes.write(_join(_read(old), _read(fresh), new, gone).tobytes())
    changed = np.empty(0, CHANGED)
    if (folder / "changed").stat().st_size:
        changed = np.memmap(folder / "changed", CHANGED, "r+")
        changed.sort(order="image_id")
    return Difference(listed, source.schema, counted.duplicates, new, gone, changed)


def _part(output: Output, known: Manifest, number: int) -> pa.Table:
    """A part as the manifest knows it; one that an interrupted refresh wrote may be longer."""
    table = _with_versions(manifest.read_part(output.fs, output.run, number))
    return table.slice(0, known.rows - number * PART_ROWS)


def _with_versions(part: pa.Table) -> pa.Table:
    """The part, to which earlier releases gave no versions."""
    if "object_version" in part.column_names:
        return part
    place = part.column_names.index("size_bytes") + 1
    field = LISTED.field("object_version")
    return part.add_column(place, field, pa.nulls(part.num_rows, field.type))


def _spread(table: pa.Table, first: int, buckets: list[Any]) -> None:
    """Rows to files by the digests of their URIs; a row without one is like no other."""
    seen = np.zeros(table.num_rows, SEEN)
    seen["high"], seen["low"] = manifest.digests(table["image_uri"])
    seen["place"] = np.arange(first, first + table.num_rows)
    for name, column in (("size", "size_bytes"), ("version", "object_version")):
        seen[name] = pc.fill_null(table[column], UNKNOWN).to_numpy()
    seen = seen[pc.not_equal(table["image_uri"], "").to_numpy()]
    bucket = seen["high"] % HASH_BUCKETS
    for number in np.unique(bucket):
        buckets[number].write(seen[bucket == number].tobytes())


def _read(file: Any) -> np.ndarray:
    file.seek(0)
    return np.frombuffer(file.read(), SEEN)


def _join(before: np.ndarray, now: np.ndarray, new: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Mark what only one side has; returns what both have and has changed."""
    both = np.concatenate((before, now))
    is_now = np.arange(len(both)) >= len(before)
    order = np.lexsort((is_now, both["low"], both["high"]))
    both, is_now = both[order], is_now[order]
    same = (both["high"][1:] == both["high"][:-1]) & (both["low"][1:] == both["low"][:-1])
    paired = np.zeros(len(both), bool)
    paired[1:] |= same
    paired[:-1] |= same
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


def _examples(output: Output, known: Manifest, gone: np.ndarray) -> Iterator[tuple[int, str]]:
    for image_id in np.flatnonzero(gone)[:EXAMPLES].tolist():
        number, place = divmod(image_id, PART_ROWS)
        yield image_id, _part(output, known, number)["image_uri"][place].as_py()


def _apply(output: Output, known: Manifest, difference: Difference) -> None:
    """Until its end another call begins again, and comes to the same end."""
    counts, changed = difference.counts(), difference.changed["image_id"]
    # parts that an interrupted call has written show nothing changed
    interrupted = objects.get_json(output.fs, output.refreshing) or {}
    note = {name: max(count, interrupted.get(name, 0)) for name, count in counts.items()}
    objects.put(output.fs, output.refreshing, json.dumps(note).encode())
    if counts["new"] or counts["changed"]:
        objects.delete(output.fs, output.success)
    if counts["new"]:  # the last slice grows
        objects.delete(output.fs, output.slice_record(known.slices[-1]))
    for index in np.unique(changed // SLICE_ROWS).tolist():
        objects.delete(output.fs, output.slice_record(index))
        first, last = np.searchsorted(changed, (index * SLICE_ROWS, (index + 1) * SLICE_ROWS))
        rows = known.slice_rows(index)
        Finished(output.fs, output.detections, index, rows).forget(changed[first:last])
    grown = _write_parts(output, known, difference)
    _write_gone(output, known, difference.gone)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    manifest.save(
        dataclasses.replace(
            known,
            rows=known.rows + counts["new"],
            known_bytes=known.known_bytes + grown,
            duplicates=difference.duplicates,
            refreshed=[*known.refreshed, {"at": now, **note}],
        ),
        output.fs,
        output.run,
    )
    objects.delete(output.fs, output.refreshing)


def _write_parts(output: Output, known: Manifest, difference: Difference) -> int:
    """Write the parts that change, and those to come; returns by how many bytes the images grew."""
    last, in_last = divmod(known.rows, PART_ROWS)
    grown = 0
    parts = set((difference.changed["image_id"] // PART_ROWS).tolist())
    for number in sorted(parts):
        before = _part(output, known, number)
        part = _updated(before, difference.changed)
        grown += _bytes(part) - _bytes(before)
        manifest.write_part(output.fs, output.run, number, part.drop_columns("image_id"))
    if difference.new.any():

        def tables() -> Iterator[pa.Table]:
            nonlocal grown
            if in_last:
                yield _part(output, known, last).drop_columns("image_id").cast(difference.schema)
            first = 0
            for batch in pa.ipc.open_stream(str(difference.listed)):
                mask = pa.array(difference.new[first : first + batch.num_rows])
                table = pa.table(batch).filter(mask)
                first += batch.num_rows
                grown += _bytes(table)
                yield table

        manifest.write_parts(output.fs, output.run, tables(), last)
    return grown


def _updated(part: pa.Table, changed: np.ndarray) -> pa.Table:
    """The part with the sizes and versions of changed images as they are now."""
    first = part["image_id"][0].as_py()
    low, high = np.searchsorted(changed["image_id"], (first, first + part.num_rows))
    places = changed["image_id"][low:high] - first
    mask = np.zeros(part.num_rows, bool)
    mask[places] = True
    for name, column in (("size", "size_bytes"), ("version", "object_version")):
        values = changed[name][low:high]
        fresh = pa.array(values, pa.int64(), mask=values == UNKNOWN)
        index = part.column_names.index(column)
        kept = part[column].combine_chunks()
        part = part.set_column(
            index, part.schema.field(column), pc.replace_with_mask(kept, mask, fresh)
        )
    return part


def _bytes(table: pa.Table) -> int:
    return pc.sum(table["size_bytes"]).as_py() or 0


def _write_gone(output: Output, known: Manifest, gone: np.ndarray) -> None:
    """The images whose rows are of objects that the input does not hold any more."""
    path, buffer = f"{output.run}/gone.parquet", io.BytesIO()
    schema = pa.schema([("image_id", pa.int64()), ("image_uri", pa.string())])
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for number in np.unique(np.flatnonzero(gone) // PART_ROWS).tolist():
            part = _part(output, known, number)
            mask = gone[number * PART_ROWS :][: part.num_rows]
            writer.write_table(part.filter(pa.array(mask)).select(schema.names).cast(schema))
    objects.put(output.fs, path, buffer.getvalue())
