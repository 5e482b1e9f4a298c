"""What a run shall process: a listing, a manifest table or embedded bytes, as one stream.

Every source yields Arrow tables of a bounded number of rows. No listing is ever wholly in memory.
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
from pipeline.inputs.containers import archives
from pipeline.inputs.containers.parquet import open_embedded
from pipeline.inputs.listing import below, list_files, root
from pipeline.inputs.sniffing import sniffed
from pipeline.inputs.source import Source
from pipeline.inputs.uri_tables import open_table
from pipeline.outputs.manifest import LISTED
from pipeline.store import failures, urls


def open_source(config: Config, by_products: bool = False) -> Source:
    """The source that `config.input` means.

    Args:
        config: the run's.
        by_products: whether a listing has those of `exclusions`, too.

    Raises:
        UsageError: the input cannot be read, or lacks a column.
    """
    fs, path = urls.filesystem(config.input, reading=config.reading)
    is_table = config.bytes_column or config.uri_column or tables.is_table(path)
    if config.exclude and is_table:
        raise UsageError("exclude is for a listing; the input is a table, whose rows say all")
    if config.bytes_column:
        return open_embedded(config, fs, path)
    if is_table:
        return open_table(config, fs, path)
    if archives.opened(config, fs, path):
        return archives.open_archives(config, fs, path)
    if config.carry:
        raise UsageError(
            "carry needs a manifest table, bytes_column or archives; the input is a listing"
        )
    passed: Counter[str] = Counter()
    left_out = exclusions.reasons(config.exclude, by_products)
    read = partial(_listing, config, fs, path, passed, left_out)
    return Source(LISTED, read, is_table=False, passed=passed)


def _listing(
    config: Config,
    fs: AbstractFileSystem,
    path: str,
    passed: Counter[str],
    left_out: Callable[[str], str],
) -> Iterator[pa.Table]:
    passed.clear()
    if config.sniff:
        listed = list_files(fs, path, (*config.extensions, ""), passed, left_out)
        entries = sniffed(fs, listed, passed)
    else:
        entries = list_files(fs, path, config.extensions, passed, left_out)
    # the first comes alone: who only looks whether there is one waits for no other
    rows = chain([1], repeat(readers.BATCH_ROWS))
    try:
        while found := list(islice(entries, next(rows))):
            names, sizes, versions = zip(*found, strict=True)
            uris = [urls.url_of(fs, name) for name in names]
            yield pa.table([uris, sizes, versions], schema=LISTED)
    except Exception as error:  # each file system has its own
        raise failures.unusable("read", config.input, error) from error


def by_products(config: Config) -> Callable[[str], bool]:
    """Whether a URI of a listing is that of a by-product, which open_source leaves out."""
    fs, path = urls.filesystem(config.input, reading=config.reading)
    folder = urls.url_of(fs, root(fs, path))
    return lambda uri: exclusions.is_by_product(below(uri, folder))
