"""Tables of Lance as an input: with the images in a column, or their URIs."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import pyarrow as pa
from fsspec import AbstractFileSystem

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import readers
from pipeline.inputs.containers import lance_rows, parquet
from pipeline.inputs.references import absolute
from pipeline.inputs.source import Source, carried_fields
from pipeline.inputs.uri_tables import uri_column_of, with_uris
from pipeline.outputs.manifest import LISTED, MEMBER
from pipeline.store import failures, urls


def open_lance(config: Config, fs: AbstractFileSystem, path: str, embedded: bool = False) -> Source:
    """The images in a table's latest version, or those that it names.

    Args:
        config: the run's.
        fs: of the table.
        path: likewise.
        embedded: whether it is images, also where a column has URIs.

    Raises:
        UsageError: there is no table, or it lacks a column.
    """
    url = urls.url_of(fs, path.rstrip("/"))
    try:
        table = lance_rows.opened(url, config.reading)
        version = int(table.version)
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

    def read() -> Iterator[pa.Table]:
        first = 0
        wanted = [*([found] if found else []), *config.carry]
        try:
            # of the version that was opened, in the order of its rows
            scanned = table.to_batches(
                columns=wanted, batch_size=readers.BATCH_ROWS, with_row_id=not wanted
            )
            for rows in scanned:
                last = first + rows.num_rows
                unknown = [pa.nulls(rows.num_rows, pa.int64())] * 2
                if found:
                    folder = posixpath.dirname(url)
                    named = [absolute(uri, folder) for uri in rows[found].to_pylist()]
                    columns = [named, *unknown]
                else:
                    numbers = range(first, last)
                    columns = [[f"{url}#{row}" for row in numbers], *unknown]
                    columns += [[url] * len(numbers), [lance_rows.KIND] * len(numbers)]
                    columns += [[[version, row] for row in numbers]]
                yield pa.table([*columns, *map(rows.column, config.carry)], schema=schema)
                first = last
        except (ValueError, OSError) as error:
            raise failures.unusable("read", url, error) from error

    return Source(schema, read, may_repeat=bool(found))
