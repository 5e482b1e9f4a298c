"""What a run shall process: a listing, an inventory, a table or embedded bytes, as one stream.

Every source yields Arrow tables of a bounded number of rows. What is in memory of a listing,
`listing` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice, repeat

import pyarrow as pa
from fsspec import AbstractFileSystem

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import exclusions, readers, tables
from pipeline.inputs.containers import archives, lance_rows
from pipeline.inputs.containers.parquet import open_embedded
from pipeline.inputs.hubs import find_dataset
from pipeline.inputs.inventory import Inventory, find_inventory
from pipeline.inputs.lance_tables import open_lance
from pipeline.inputs.listing import below, chosen, list_files, root, unlisted
from pipeline.inputs.sniffing import sniffed
from pipeline.inputs.source import Source
from pipeline.inputs.uri_tables import open_table
from pipeline.outputs.manifest import LISTED
from pipeline.store import urls


def open_source(config: Config, by_products: bool = False) -> Source:
    """The source that `config.input` means.

    Args:
        config: the run's.
        by_products: whether a listing has those of `exclusions`, too.

    Raises:
        UsageError: the input cannot be read, or lacks a column.
    """
    fs, path = urls.filesystem(config.input, reading=config.reading)
    names_column = config.bytes_column or config.uri_column
    is_lance = lance_rows.is_table(path)
    found = None if names_column or is_lance else find_inventory(config, fs, path)
    is_table = is_lance or config.uri_column or (tables.is_table(path) and not found)
    dataset = [] if is_table or found else find_dataset(config, fs, path)
    in_rows = is_table or dataset or config.bytes_column
    if in_rows and (name := "include" if config.include else config.exclude and "exclude"):
        raise UsageError(
            f"{name} is for a listing; the input is a table, of which all rows are read"
        )
    if in_rows and not config.retries_failures and config.reads_videos:
        raise UsageError("fps, every_nth and keyframes are for a listing; the input is a table")
    if is_lance:
        return open_lance(config, fs, path)
    if config.bytes_column or dataset:
        return open_embedded(config, fs, path, dataset)
    if is_table:
        return open_table(config, fs, path)
    if archives.opened(config, fs, path):
        if found:
            raise UsageError(
                "archives and videos in an inventory are not opened; give a glob that matches them"
            )
        return archives.open_archives(config, fs, path)
    if config.carry:
        raise UsageError(
            "carry needs a manifest table, bytes_column or archives; the input is a listing"
        )
    passed: Counter[str] = Counter()
    read = partial(_listing, config, fs, path, found, passed, by_products)
    # nothing says that an inventory, taken while objects change, has each key once
    return Source(LISTED, read, may_repeat=bool(found), is_table=False, passed=passed)


def _listing(
    config: Config,
    fs: AbstractFileSystem,
    path: str,
    inventory: Inventory | None,
    passed: Counter[str],
    by_products: bool,
) -> Iterator[pa.Table]:
    passed.clear()
    left_out = exclusions.reasons(config.include, config.exclude, by_products)
    extensions = (*config.extensions, "") if config.sniff else config.extensions
    if inventory:
        fs, folder = urls.filesystem(f"s3://{inventory.bucket}", reading=config.reading)
        listed = inventory.entries(config.reading, passed)
        entries = chosen(listed, folder, extensions, passed, left_out)
    else:
        entries = list_files(fs, path, extensions, passed, left_out)
    if config.sniff:
        entries = sniffed(fs, entries, passed)
    # the first comes alone: who only looks whether there is one waits for no other
    rows = chain([1], repeat(readers.BATCH_ROWS))
    try:
        while found := list(islice(entries, next(rows))):
            names, sizes, versions = zip(*found, strict=True)
            uris = [urls.url_of(fs, name) for name in names]
            yield pa.table([uris, sizes, versions], schema=LISTED)
    except Exception as error:  # each file system has its own
        raise unlisted(config.input, fs, path, error) from error


def by_products(config: Config) -> Callable[[str], bool]:
    """Whether a URI of a listing is that of a by-product, which open_source leaves out."""
    fs, path = urls.filesystem(config.input, reading=config.reading)
    folder = urls.url_of(fs, root(fs, path))
    return lambda uri: exclusions.is_by_product(below(uri, folder))
