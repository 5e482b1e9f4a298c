"""Tables of Lance whose rows hold encoded images. `source_place` is [version, row in it].

Format and `take`: https://lance.org/format/table/, https://lance.org/guide/read_and_write/
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa

from pipeline.errors import Code, UsageError
from pipeline.inputs.containers import parquet
from pipeline.inputs.containers.members import MemberError
from pipeline.reading import Reading
from pipeline.store import urls

KIND = "lance"
MISSING = "tables of Lance need pylance: pip install '.[lance]' in the clone"
# neighbours that are taken at once, and kept: a request for each alone would take many times longer
ROWS = 16


def is_table(path: str) -> bool:
    """Whether a path is called as the folder of such a table is."""
    return path.rstrip("/").lower().endswith(".lance")


def is_place(uri: str) -> bool:
    """Whether a URI has the form of such an image's: its table, and its row there."""
    table, _, row = uri.rpartition("#")
    return row.isdigit() and is_table(table)


def opened(url: str, reading: Reading, version: int | None = None) -> Any:
    """A `lance.LanceDataset`, by default of the latest version.

    Raises:
        FileNotFoundError: there is none, or not that version.
        OSError: it cannot be read.
        UsageError: pylance is not installed, or cannot be told an option of S3.
    """
    options = _storage_options(reading.s3_options) if urls.protocol(url) in ("s3", "s3a") else {}
    # which version is the latest may be another one the next time
    open_version = _dataset if version is None else _opened
    return open_version(url, version, tuple(options.items()))


def _dataset(url: str, version: int | None, options: tuple[tuple[str, str], ...]) -> Any:
    try:
        import lance
    except ImportError as error:
        raise UsageError(MISSING) from error
    # what Ray starts of a process is another program, which has no use for Lance's threads
    warnings.filterwarnings("ignore", "lance is not fork-safe", UserWarning)
    try:
        return lance.dataset(url, version=version, storage_options=dict(options))
    except (ValueError, OSError) as error:
        raise _plain(error) from error


_opened = lru_cache(maxsize=8)(_dataset)


def _plain(error: Exception) -> OSError:
    """What Lance raises, whose texts end in places of its own source, as what it is."""
    kind = FileNotFoundError if "not found" in str(error).lower() else OSError
    return kind(str(error).partition(", /")[0])


def _storage_options(given: Mapping[str, Any]) -> dict[str, str]:
    """Those of s3fs by the names of Lance, which finds credentials and region by itself.

    Raises:
        UsageError: Lance has no such option.
    """
    if "profile" in given:
        raise UsageError("tables of Lance cannot use --s3-option profile: set AWS_PROFILE instead")
    endpoint = (
        given.get("endpoint_url")
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
    )
    options: dict[str, str] = {}
    if endpoint:
        options |= {"aws_endpoint": endpoint}
    if endpoint and endpoint.startswith("http://"):
        options |= {"allow_http": "true"}
    if given.get("anon"):
        options |= {"aws_skip_signature": "true"}
    if given.get("requester_pays"):
        options |= {"aws_request_payer": "true"}
    return options


def image(
    url: str, version: int, row: int, column: str | None, reading: Reading
) -> bytes | str | None:
    """The encoded image of a row; see `parquet.image`.

    Raises:
        MemberError: the version is gone.
        OSError, pyarrow.ArrowException: it cannot be read.
    """
    try:
        table = opened(url, reading, version)
        values, paths = _images(table, url, row // ROWS, column)
    except FileNotFoundError as error:
        what = f"version {version} of the table, or a file of it, is gone: {error}"
        raise MemberError(Code.CONTAINER_CHANGED, what) from error
    return parquet.image_or_path(values, paths, row % ROWS, url)


@lru_cache(maxsize=2)
def _images(
    table: Any, url: str, block: int, column: str | None
) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
    name = column or parquet.image_column(table.schema, url)
    try:
        rows = range(block * ROWS, min((block + 1) * ROWS, table.count_rows()))
        values = table.take(list(rows), columns=[name])[name]
    except (ValueError, OSError) as error:
        raise _plain(error) from error
    return parquet.images_and_paths(values, name, url)
