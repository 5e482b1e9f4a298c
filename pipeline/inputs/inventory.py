"""S3 Inventory: the keys of a bucket in files, which S3 writes every day or week.

Format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import posixpath
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.orc as orc
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from pipeline import words
from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import globs, readers
from pipeline.inputs.entries import Entry, version_of
from pipeline.inputs.listing import list_files
from pipeline.reading import Reading
from pipeline.store import failures, objects, urls

log = logging.getLogger(__name__)
NAME = "manifest.json"
FORMATS = ("csv", "orc", "parquet")
# which tells an inventory's manifest from a table of URIs, and how far from the start it may stand
MARK, HEAD_BYTES = b'"fileSchema"', 2**16
CHUNK_BYTES = 16 * 2**20
# by names without case and underscores: CSV has `IsLatest` where ORC and Parquet have `is_latest`
COLUMNS = {
    "key": pa.string(),
    "size": pa.int64(),
    "etag": pa.string(),
    "lastmodifieddate": pa.timestamp("ms", "UTC"),
    "islatest": pa.bool_(),
    "isdeletemarker": pa.bool_(),
}
# why a row is passed over: `exclusions` says how reasons look
DELETE_MARKER, OLDER = "/delete marker", "/older version"


@dataclass(frozen=True)
class File:
    """A file of an inventory, as its manifest has it; `md5` in hexadecimal."""

    url: str
    size: int
    md5: str


@dataclass(frozen=True)
class Inventory:
    """
    Attributes:
        bucket: whose keys are listed.
        format: one of `FORMATS`.
        columns: of CSV, which has no header.
        files: in the manifest's order.
    """

    bucket: str
    format: str
    columns: list[str]
    files: list[File]

    def entries(self, reading: Reading, passed: Counter[str]) -> Iterator[Entry]:
        """The objects that were there: of versions the latest, without delete markers.

        Args:
            reading: the run's.
            passed: counts the other rows.

        Raises:
            UsageError: a file cannot be read, or is not the one that the manifest means.
        """
        for file in self.files:
            try:
                with _fetched(file, reading) as local:
                    for batch in self._batches(local):
                        yield from self._entries(batch, passed)
            except Exception as error:  # of the file system, or of the file's content
                raise failures.unusable("read", file.url, error) from error

    def _batches(self, path: str) -> Iterator[pa.RecordBatch]:
        """The rows in those of `COLUMNS` that there are, by these names."""
        if self.format == "csv":
            if not _text(path).read(1):  # which Arrow takes for a fault
                return
            wanted = _wanted(self.columns)
            types = {name: COLUMNS[plain] for name, plain in wanted.items()}
            found = csv.open_csv(
                _text(path),
                csv.ReadOptions(column_names=self.columns, block_size=readers.BLOCK_BYTES),
                convert_options=csv.ConvertOptions(
                    column_types=types, include_columns=list(wanted)
                ),
            )
        elif self.format == "orc":
            stripes = orc.ORCFile(path)
            wanted = _wanted(stripes.schema.names)
            found = (stripes.read_stripe(n, list(wanted)) for n in range(stripes.nstripes))
        else:
            table = pq.ParquetFile(path)
            wanted = _wanted(table.schema_arrow.names)
            found = table.iter_batches(readers.BATCH_ROWS, columns=list(wanted))
        for batch in found:
            batch = batch.select(list(wanted)).rename_columns(list(wanted.values()))
            for start in range(0, batch.num_rows, readers.BATCH_ROWS):
                yield batch.slice(start, readers.BATCH_ROWS)

    def _entries(self, batch: pa.RecordBatch, passed: Counter[str]) -> Iterator[Entry]:
        for name, kept, reason in (
            ("isdeletemarker", False, DELETE_MARKER),
            ("islatest", True, OLDER),
        ):
            if name in batch.schema.names:
                rows = batch.num_rows
                batch = batch.filter(pc.equal(pc.fill_null(batch[name], kept), kept))
                if batch.num_rows < rows:
                    passed[reason] += rows - batch.num_rows
        keys = batch["key"].to_pylist()
        if self.format == "csv":  # as forms have it, with + for a blank; the others as it is
            keys = [unquote_plus(key, errors="strict") for key in keys]
        unknown = pa.nulls(batch.num_rows)
        sizes = (batch["size"] if "size" in batch.schema.names else unknown).to_pylist()
        for key, size, version in zip(keys, sizes, _versions(batch), strict=True):
            yield f"{self.bucket}/{key}", size, version


def find_inventory(config: Config, fs: AbstractFileSystem, path: str) -> Inventory | None:
    """The inventory whose manifest a path names; None where it names something else.

    Of the manifests that a glob matches, the newest one, by the name of its folder.

    Raises:
        UsageError: it is one and cannot be read, or a glob matches several inventories.
    """
    if any(posixpath.basename(name) != NAME for name in globs.expanded(path)):
        return None
    try:
        names = sorted(name for name, *_ in list_files(fs, path, ("json",)))
        if not names or MARK not in _head(fs, names[-1]):
            return None
        homes = {posixpath.dirname(posixpath.dirname(name)) for name in names}
        content = objects.get_json(fs, names[-1])
    except Exception as error:  # each file system has its own
        raise failures.unusable("read", config.input, error) from error
    if len(homes) > 1:
        raise UsageError(f"{config.input} matches several inventories; name the folder of one")
    url = urls.url_of(fs, names[-1])
    found = _parsed(url, content)
    size, count = sum(file.size for file in found.files), len(found.files)
    log.info(
        "inventory %s of s3://%s: %s, %s",
        url,
        found.bucket,
        words.count(count, "file"),
        words.size(size),
    )
    return found


def _head(fs: AbstractFileSystem, path: str) -> bytes:
    def read() -> bytes:
        with fs.open(path) as file:
            return bytes(file.read(HEAD_BYTES))

    return objects.retrying(read)


def _parsed(url: str, content: Any) -> Inventory:
    try:
        kind = content["fileFormat"].lower()
        # of S3's own names the one is bare, the other an ARN
        bucket, home = (
            content[name].rpartition(":")[2] for name in ("sourceBucket", "destinationBucket")
        )
        columns = [name.strip() for name in content["fileSchema"].split(",")]
        files = [
            File(f"s3://{home}/{file['key']}", int(file["size"]), file["MD5checksum"].lower())
            for file in content["files"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{url} is not a manifest of an S3 Inventory: {error!r}") from error
    if kind not in FORMATS:
        raise UsageError(
            f"{url} belongs to an inventory in {kind}; configure one in {', '.join(FORMATS)}"
        )
    if not files:
        raise UsageError(f"{url} belongs to an inventory without files")
    return Inventory(bucket, kind, columns, files)


@contextlib.contextmanager
def _fetched(file: File, reading: Reading) -> Iterator[str]:
    """A copy on this machine's disk, which is whole and as the manifest says; yields its path."""
    fs, path = urls.filesystem(file.url, reading=reading)
    digest = hashlib.md5(usedforsecurity=False)
    with tempfile.NamedTemporaryFile() as local:
        for start in range(0, file.size, CHUNK_BYTES):
            span = {"start": start, "end": start + CHUNK_BYTES}
            chunk = objects.retrying(partial(fs.cat_file, path, **span))
            digest.update(chunk)
            local.write(chunk)
        if digest.hexdigest() != file.md5:
            raise UsageError(
                f"{file.url} does not match its inventory's manifest: its MD5 checksum is "
                f"{digest.hexdigest()}, not {file.md5}; take a newer inventory"
            )
        local.flush()
        yield local.name


def _text(path: str) -> pa.NativeFile:
    # no file of Python's: Arrow reads ahead on a thread, which may outlive the interpreter
    return pa.CompressedInputStream(pa.OSFile(path), "gzip")


def _wanted(names: list[str]) -> dict[str, str]:
    """A file's names of `COLUMNS`, and these.

    Raises:
        UsageError: they do not tell which objects there are.
    """
    plain = {name.replace("_", "").lower(): name for name in names}
    if "key" not in plain:
        raise UsageError(f"the inventory has no column of keys; its columns: {', '.join(names)}")
    if "versionid" in plain and "islatest" not in plain:
        raise UsageError(
            "the inventory lists versions, but not which is the latest; include the field IsLatest"
        )
    return {plain[name]: name for name in COLUMNS if name in plain}


def _versions(batch: pa.RecordBatch) -> list[int | None]:
    """As a listing of the bucket has them where there are ETags, which it has in quotes."""
    if "etag" in batch.schema.names:
        tags = batch["etag"].to_pylist()
        return [version_of({"ETag": f'"{tag}"' if tag else None}) for tag in tags]
    if "lastmodifieddate" in batch.schema.names:
        times = batch["lastmodifieddate"]
        unit = pa.timestamp("ms", times.type.tz)
        return [
            version_of({"LastModified": time})
            for time in times.cast(unit, safe=False).cast(pa.int64()).to_pylist()
        ]
    return [None] * batch.num_rows
