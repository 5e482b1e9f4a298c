"""Tables of Lance as an input: with the images in a column, or their URIs."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from fsspec import AbstractFileSystem

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import readers
from pipeline.inputs.containers import lance_rows, members, parquet
from pipeline.inputs.references import absolute
from pipeline.inputs.source import Source, carried_fields
from pipeline.inputs.uri_tables import uri_column_of, with_uris
from pipeline.outputs.manifest import LISTED, MEMBER
from pipeline.store import failures, urls


def open_lance(
    config: Config,
    fs: AbstractFileSystem,
    path: str,
    embedded: bool = False,
    version: int | None = None,
) -> Source:
    """The images in a table's latest version, or those that it names.

    Args:
        config: the run's.
        fs: of the table.
        path: likewise.
        embedded: whether it is images, also where a column has URIs.
        version: another one than the latest.

    Raises:
        UsageError: there is no table, or it lacks a column.
    """
    url = urls.url_of(fs, path.rstrip("/"))
    try:
        table = lance_rows.opened(url, config.reading, version)
    except (OSError, UsageError) as error:
        raise failures.unusable("read", url, error) from error
    has_images = embedded or config.bytes_column
    found = config.uri_column or (None if has_images else uri_column_of(table.schema))
    column = found or config.bytes_column or parquet.image_column(table.schema, url)
    carried = carried_fields(config, table.schema, column)
    if found:
        with_uris(config, table.schema, column, lance_rows.KIND)
    else:
        parquet.check_bytes(config, column, table.schema)
    schema = pa.schema([*LISTED, *([] if found else MEMBER), *carried])

    read = partial(_read, table, url, found, config.carry, schema)
    return Source(schema, read, may_repeat=bool(found))


def _read(
    table: Any, url: str, found: str | None, carry: Sequence[str], schema: pa.Schema
) -> Iterator[pa.Table]:
    wanted, folder = [*([found] if found else []), *carry], posixpath.dirname(url)
    first = 0
    try:
        # of the version that was opened, in the order of its rows
        scanned = table.to_batches(
            columns=wanted, batch_size=readers.BATCH_ROWS, with_row_id=not wanted
        )
        for rows in scanned:
            last = first + rows.num_rows
            if found:
                uris = [absolute(uri, folder) for uri in rows[found].to_pylist()]
                columns = [uris, *[pa.nulls(len(uris), pa.int64())] * 2]
            else:
                places = [[int(table.version), row] for row in range(first, last)]
                columns = members.columns(url, lance_rows.KIND, first, places)
            yield pa.table([*columns, *map(rows.column, carry)], schema=schema)
            first = last
    except (ValueError, OSError) as error:
        raise failures.unusable("read", url, error) from error
