"""Table files whose rows hold encoded images. `source_place` is [row group, row in it]."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import pyarrow as pa
from fsspec import AbstractFileSystem

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import row_groups, tables
from pipeline.inputs.columns import converted
from pipeline.inputs.containers import members
from pipeline.inputs.references import absolute
from pipeline.inputs.source import Source, carried_fields
from pipeline.outputs.manifest import LISTED, MEMBER
from pipeline.reading import Reading
from pipeline.store import failures, objects, urls


def open_embedded(
    config: Config, fs: AbstractFileSystem, path: str, files: list[str] | None = None
) -> Source:
    """The images in a column of the table files at, below or matching a path.

    Args:
        config: the run's; without `bytes_column` the images are in `image_column`.
        fs: of the input.
        path: likewise.
        files: in the place of those at, below or matching the path.

    Raises:
        UsageError: there is no such file, or it lacks a column.
    """
    if urls.public(config.input) != config.input:
        raise UsageError(
            "bytes_column needs a URL without a query, which would be written to every row"
        )
    passed: Counter[str] = Counter()
    files = files or tables.find(config, fs, path, passed)
    try:
        table_schema = row_groups.schema(fs, files[0])
    except Exception as error:  # of the file system, or of the table's content
        raise tables.unreadable(urls.url_of(fs, files[0]), error) from error
    column = config.bytes_column or image_column(table_schema, urls.public(config.input))
    carried = carried_fields(config, table_schema, column)
    check_bytes(config, column, table_schema)
    schema = pa.schema([*LISTED, *MEMBER, *carried])

    def read() -> Iterator[pa.Table]:
        for name in files:
            url, first = urls.url_of(fs, name), 0
            try:
                groups = row_groups.groups(fs, name, list(config.carry))
                for index, carried in enumerate(groups):
                    places = [[index, row] for row in range(carried.num_rows)]
                    located = members.columns(url, "parquet", first, places)
                    values = [converted(carried[name], schema.field(name)) for name in config.carry]
                    yield pa.table([*located, *values], schema=schema)
                    first += carried.num_rows
            except Exception as error:  # of the file system, or of the table's content
                raise failures.unusable("read", url, error) from error

    return Source(schema, read, passed=passed)


def image_columns(schema: pa.Schema) -> list[str]:
    """The columns that hold images: by the features that Hugging Face's datasets writes into the
    schema, or else those of `{bytes, path}`.
    """
    said = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(said)["info"]["features"] if said else {}
        return [name for name in schema.names if features[name].get("_type") == "Image"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [f.name for f in schema if pa.types.is_struct(f.type) and _is_pair(f.type)]


def image_column(schema: pa.Schema, where: str) -> str:
    """The one of `image_columns`.

    Raises:
        UsageError: there are none or several.
    """
    found = image_columns(schema)
    if len(found) != 1:
        which = (
            f"several columns of images ({', '.join(found)})" if found else "no column of images"
        )
        raise UsageError(
            f"{where} has {which}; choose one of its columns with bytes_column: "
            f"{', '.join(schema.names)}"
        )
    return found[0]


def _is_pair(kind: pa.DataType) -> bool:
    places = [kind.get_field_index(name) for name in ("bytes", "path")]
    return min(places) >= 0 and _is_bytes(kind.field(places[0]).type)


def check_bytes(config: Config, column: str, schema: pa.Schema) -> None:
    """
    Raises:
        UsageError: the column does not hold images.
    """
    kind = schema.field(column).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        if pa.types.is_null(kind.field("bytes").type) and kind.get_field_index("path") >= 0:
            return  # no image of this file is embedded
        kind = kind.field("bytes").type
    if not _is_bytes(kind):
        where = urls.public(config.input)
        raise UsageError(f"column {column!r} of {where} holds {kind}, not image bytes")


def _is_bytes(kind: pa.DataType) -> bool:
    plain = _plain(kind)
    return pa.types.is_fixed_size_binary(plain) or plain in (
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
    )


def _is_text(kind: pa.DataType) -> bool:
    return _plain(kind) in (pa.string(), pa.large_string(), pa.string_view())


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_place(uri: str) -> bool:
    """Whether a URI has the form of an embedded image's: its file, and its row there."""
    file, _, row = uri.rpartition("#")
    return row.isdigit() and tables.kind_of(file) in tables.GROUPED


def image(
    source_uri: str, row_group: int, row: int, column: str | None, reading: Reading
) -> bytes | str | None:
    """The encoded image of a row, or the URI that its path means, or None where it has neither.

    Args:
        source_uri: URL of the file.
        row_group, row: the image's `source_place`.
        column: with the images: their bytes, or a struct of `bytes` and `path`; None for the
            file's `image_column`.
        reading: the run's.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be read.
        UsageError: the file has no such column any more.
    """
    values, paths = _row_group(*urls.filesystem(source_uri, reading=reading), row_group, column)
    return image_or_path(values, paths, row, source_uri)


def image_or_path(
    values: pa.ChunkedArray, paths: pa.ChunkedArray | None, row: int, url: str
) -> bytes | str | None:
    """The bytes of a row of `images_and_paths`, or the URI that stands in their place.

    Args:
        values, paths: of the table at `url`.
        row: number within them.
        url: what relative paths start at.
    """
    found: bytes | None = values[row].as_py()
    if found is None and paths is not None and (path := paths[row].as_py()):
        return absolute(path, posixpath.dirname(url))
    return found


@lru_cache(maxsize=2)
def _row_group(
    fs: AbstractFileSystem, path: str, group: int, column: str | None
) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
    """The images of a row group and their paths; kept, since consecutive images share it."""
    url = urls.url_of(fs, path)
    name = column or objects.retrying(lambda: image_column(row_groups.schema(fs, path), url))
    values = objects.retrying(lambda: row_groups.column(fs, path, group, name))
    return images_and_paths(values, name, url)


def images_and_paths(
    values: pa.ChunkedArray, column: str, url: str
) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
    """Of a column's values: the bytes, and where they are structs that have them the paths.

    Raises:
        pyarrow.ArrowTypeError: they are of another type.
    """
    paths = None
    if pa.types.is_struct(values.type):
        paths = _field(values, "path")
        values = _field(values, "bytes")
    # each file has its own types, and reading values of some executes what they hold
    if values is None or not (_is_bytes(values.type) or pa.types.is_null(values.type)):
        held = values.type if values is not None else "a struct without bytes"
        raise pa.ArrowTypeError(f"column {column!r} of {url} holds {held}, not image bytes")
    return values, paths if paths is not None and _is_text(paths.type) else None


def _field(structs: pa.ChunkedArray, name: str) -> pa.ChunkedArray | None:
    index = structs.type.get_field_index(name)
    if index < 0:
        return None
    kind = structs.type.field(index).type
    return pa.chunked_array([chunk.field(index) for chunk in structs.chunks], kind)
